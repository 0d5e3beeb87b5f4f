package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"tbhist/client"
)

// What the process ends with. Scripts rely on these.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitIncomplete  = 3   // the answer lacks what history no longer holds, under --strict; a backup, what is damaged
	exitInterrupted = 130 // a command that would have ended by itself was interrupted
)

// usageError is a mistake in the command line, the environment or the
// configuration file.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...)}
}

// incompleteError ends a command that has done what can be done, which is not
// all.
type incompleteError struct{ msg string }

func (e *incompleteError) Error() string { return e.msg }

// errIncomplete ends a command under --strict whose answer is not complete.
var errIncomplete = &incompleteError{"the answer is incomplete: history no longer holds all of it"}

// errInterrupted ends a finite command on SIGINT or SIGTERM. It is not
// printed: who interrupts knows.
var errInterrupted = errors.New("interrupted")

// say tells a human something that is no result. Where nobody can be told,
// there is nobody to tell of that.
func say(stderr io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(stderr, "tbhist: "+format+"\n", args...)
}

// report prints err for a human and gives the exit code that goes with it.
func report(stderr io.Writer, err error) int {
	var usage *usageError
	var incomplete *incompleteError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, syscall.EPIPE):
		// Who read our output has seen enough, as in "| head".
		return exitDone
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	}
	msg := strings.TrimSpace(err.Error())
	var none *client.NoBrokerError
	if errors.As(err, &none) {
		switch {
		case none.Zone != "":
			msg += "; tbhist zone " + none.Zone + " tells more"
		case errors.Is(err, syscall.ECONNREFUSED):
			msg += `; "tbhist serve" starts one, --broker names another`
		default:
			msg += "; --broker names another"
		}
	}
	say(stderr, "%s", msg)
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &incomplete):
		return exitIncomplete
	}
	return exitFailed
}
