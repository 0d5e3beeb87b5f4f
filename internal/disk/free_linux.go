package disk

import "syscall"

// Free gives how many bytes the file system of a folder has left for this
// user; ok is false where that cannot be told.
func Free(dir string) (bytes int64, ok bool) {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true //nolint:unconvert // they differ by machine
}
