//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// notifySummary has SIGUSR1 sent to asked.
func notifySummary(asked chan<- os.Signal) { signal.Notify(asked, syscall.SIGUSR1) }
