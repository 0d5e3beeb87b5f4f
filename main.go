// Command tbhist is a message broker that remembers: it takes in updates of
// Things, keeps their history on disk and hands them out, live and replayed.
package main

import "tbhist/cli"

func main() {
	cli.Main()
}
