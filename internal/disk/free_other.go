//go:build !linux

package disk

// Free cannot be told here: a disk that is full will tell itself.
func Free(string) (bytes int64, ok bool) { return 0, false }
