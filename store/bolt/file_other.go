//go:build !unix

package bolt

import "os"

// mapsSparse: Windows grows the file to the size of the mapping.
const mapsSparse = false

// unlock: the lock goes with the descriptor.
func unlock(*os.File) error { return nil }
