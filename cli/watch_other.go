//go:build !unix

package cli

import (
	"errors"
	"os"
)

// terminalSize: it is not known here how to ask.
func terminalSize(*os.File) (columns, lines int, err error) {
	return 0, 0, errors.ErrUnsupported
}

// notifyResize: nobody tells.
func notifyResize(chan<- os.Signal) (stop func()) { return func() {} }
