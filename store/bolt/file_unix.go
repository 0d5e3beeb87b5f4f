//go:build unix

package bolt

import (
	"os"
	"syscall"
)

// mapsSparse: mapping more than the file has costs address space alone.
const mapsSparse = true

// unlock releases bbolt's lock on the file.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
