//go:build unix

package bolt

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives the file at path mode and owner of another. One that its
// owner could not open any more is an error.
func keepOwner(path string, of fs.FileInfo) error {
	if err := os.Chmod(path, of.Mode().Perm()); err != nil {
		return err
	}
	want, ok := of.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	has, ok := info.Sys().(*syscall.Stat_t)
	if !ok || (has.Uid == want.Uid && has.Gid == want.Gid) {
		return nil
	}
	if err := os.Chown(path, int(want.Uid), int(want.Gid)); err != nil && has.Uid != want.Uid {
		return fmt.Errorf("the new file would not belong to the user %d, as the old one does: do this as that user: %w", want.Uid, err)
	}
	return nil
}
