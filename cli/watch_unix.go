//go:build unix

package cli

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// terminalSize gives the size of a terminal in characters, 0 where it is not
// known; an error if the file is none.
func terminalSize(file *os.File) (columns, lines int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var size *unix.Winsize
	if cerr := raw.Control(func(fd uintptr) { size, err = unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ) }); cerr != nil {
		return 0, 0, cerr
	}
	if err != nil {
		return 0, 0, err
	}
	return int(size.Col), int(size.Row), nil
}

// notifyResize has resized told when the terminal has another size, until
// stop.
func notifyResize(resized chan<- os.Signal) (stop func()) {
	signal.Notify(resized, unix.SIGWINCH)
	return func() { signal.Stop(resized) }
}
