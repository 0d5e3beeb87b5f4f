//go:build !unix

package cli

import "os"

// notifySummary: there is no SIGUSR1 here.
func notifySummary(chan<- os.Signal) {}
