package migrations

import "syscall"

// freeSpace gives the bytes that are free for this user on the disk of dir; ok
// is false where that cannot be told.
func freeSpace(dir string) (bytes int64, ok bool) {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
