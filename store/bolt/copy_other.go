//go:build !unix

package bolt

import (
	"io/fs"
	"os"
)

func keepOwner(path string, of fs.FileInfo) error { return os.Chmod(path, of.Mode().Perm()) }
