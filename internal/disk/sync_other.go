//go:build !unix

package disk

// SyncDir does nothing: Windows syncs no folders.
func SyncDir(string) error { return nil }
