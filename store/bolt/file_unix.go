//go:build unix

package bolt

import (
	"errors"
	"os"
	"syscall"
)

// mapsSparse: mapping more than the file has costs address space alone.
const mapsSparse = true

// locksFirst: the lock can be had before bbolt takes it.
const locksFirst = true

// lock takes bbolt's lock on the file; false where another has it.
func lock(f *os.File, exclusive bool) (bool, error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// unlock releases bbolt's lock on the file.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
