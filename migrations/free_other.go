//go:build !linux

package migrations

// freeSpace: it is not known here how to find out.
func freeSpace(string) (bytes int64, ok bool) { return 0, false }
