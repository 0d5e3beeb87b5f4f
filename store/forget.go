package store

import "tbhist/thing"

// Forgotten is what was taken from a history on purpose, or, of a dry run,
// what would be.
type Forgotten struct {
	// Things counts them, Updates the updates that history still held of them.
	Things  int
	Updates uint64
	// Names are those of the Things, in byte order.
	Names []thing.Name
}
