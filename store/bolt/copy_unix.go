//go:build unix

package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives the file at path mode and owner of another, durably: once it
// has its place nobody would know them any more. One that its owner could not
// open any more is an error.
func keepOwner(path string, of fs.FileInfo) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(of.Mode().Perm()); err != nil {
		return err
	}
	if want, ok := of.Sys().(*syscall.Stat_t); ok {
		if err := giveTo(f, want); err != nil {
			return err
		}
	}
	return f.Sync()
}

// giveTo gives the file the owner that want has.
func giveTo(f *os.File, want *syscall.Stat_t) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	has, ok := info.Sys().(*syscall.Stat_t)
	if !ok || (has.Uid == want.Uid && has.Gid == want.Gid) {
		return nil
	}
	if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil && has.Uid != want.Uid {
		return fmt.Errorf("the new file would not belong to the user %d, as the old one does: do this as that user: %w", want.Uid, err)
	}
	return nil
}
