//go:build !unix

package bolt

import "os"

// mapsSparse: Windows grows the file to the size of the mapping.
const mapsSparse = false

// locksFirst: bbolt alone locks the file.
const locksFirst = false

// lock: bbolt takes it by itself.
func lock(*os.File, bool) (bool, error) { return true, nil }

// unlock: the lock goes with the descriptor.
func unlock(*os.File) error { return nil }
