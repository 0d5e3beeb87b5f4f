//go:build unix

package disk

import (
	"errors"
	"os"
	"syscall"
)

// SyncDir makes the names in a folder durable: of files that were made,
// renamed or removed there. File systems that know no such thing do it by
// themselves.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
