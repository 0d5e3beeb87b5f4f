package bolt

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// allocate makes the file so large, with space on the disk behind all of it
// from from on.
func allocate(f *os.File, from, to int64) error {
	for to > from {
		err := unix.Fallocate(int(f.Fd()), 0, from, to-from)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return fill(f, to)
		default:
			return &os.PathError{Op: "allocate", Path: f.Name(), Err: err}
		}
	}
	return nil
}
