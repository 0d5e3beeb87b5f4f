package store

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed: the store is closed or closing.
	ErrClosed = errors.New("history is closed")
	// ErrNotKept: the disk refused a batch for longer than the grace; no
	// update of it is in history nor ever will be.
	ErrNotKept = errors.New("not kept: the disk refuses")
	// ErrBadResume: Query.Resume is none of this engine's, or not for this
	// history.
	ErrBadResume = errors.New("not a position in this history")
	// ErrLocked: another process has the history open.
	ErrLocked = errors.New("in use by another process")
	// ErrNotHistory: the file is not a history of this program.
	ErrNotHistory = errors.New("not a tbhist history")
	// ErrDamaged: so much of the history is damaged that nothing can be told
	// of what is left. A backup is needed.
	ErrDamaged = errors.New("the history is damaged")
)

// CorruptionError is damage found in a history: what it holds there is set
// aside, never guessed at.
type CorruptionError struct {
	// Where names the place in words of docs/FORMAT.md: bucket and key.
	Where string
	// Seq is the first update concerned, 0 where that is unknown.
	Seq uint64
	Err error
}

// Error says where the damage is and what was found.
func (e *CorruptionError) Error() string {
	if e.Seq != 0 {
		return fmt.Sprintf("damaged record in %s (from seq %d): %v", e.Where, e.Seq, e.Err)
	}
	return fmt.Sprintf("damaged record in %s: %v", e.Where, e.Err)
}

// Unwrap gives what was found.
func (e *CorruptionError) Unwrap() error { return e.Err }
