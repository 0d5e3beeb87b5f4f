// Command profiled is tbhist with a CPU profile that is taken on demand: the
// line "start FILE" on standard input begins one, "stop" ends it, and each
// is answered with "profile: done" on standard error.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"

	"tbhist/cli"
)

func main() {
	go profile()
	cli.Main()
}

// profile obeys standard input until that ends.
func profile() {
	var f *os.File
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		var err error
		if path, ok := strings.CutPrefix(s.Text(), "start "); ok {
			if f, err = os.Create(path); err == nil {
				err = pprof.StartCPUProfile(f)
			}
		} else {
			pprof.StopCPUProfile()
			err = f.Close()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
		fmt.Fprintln(os.Stderr, "profile: done")
	}
}
