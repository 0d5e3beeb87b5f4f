//go:build !unix

package bolt

import "os"

// keepLock: the lock goes with the descriptor.
func keepLock(*os.File) *os.File { return nil }

func anew(*os.File) (*os.File, error) { return nil, os.ErrInvalid }
