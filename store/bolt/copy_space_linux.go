package bolt

import (
	"syscall"
)

// freeSpace is how many bytes the file system of a folder has left for this
// user.
func freeSpace(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // they differ by machine
}
