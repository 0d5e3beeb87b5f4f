//go:build unix

package bolt

import (
	"os"

	"golang.org/x/sys/unix"
)

// keepLock takes the lock on f away from f: the descriptor that it gives holds
// it, so that closing f, which lets go of f's lock, does not. nil where that
// cannot be done.
func keepLock(f *os.File) *os.File {
	// Two descriptors of one opening share one lock.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	held := os.NewFile(uintptr(fd), f.Name())
	// From here on f is another opening, which has no lock.
	nothing, err := os.Open(os.DevNull)
	if err == nil {
		err = unix.Dup2(int(nothing.Fd()), int(f.Fd()))
		_ = nothing.Close()
	}
	if err != nil {
		_ = held.Close()
		return nil
	}
	return held
}

// anew gives another descriptor of held, for bbolt to lock and to close.
func anew(held *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(held.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), held.Name()), nil
}
