// Package migrations knows the versions of the history file's format: which
// one this program writes, which files it takes, and the steps that bring an
// older file up.
//
// # A new version
//
// To change the bytes on disk: describe them in docs/FORMAT.md, raise
// Current by one, add a Step from the old version at the end of steps, and
// put a real file of the old version, written by the last release, into
// testdata. A step copies from the old file into a new one and never writes
// to the old; Run carries the steps out one after another, each into a file
// beside the history, and puts the last in its place. A crash at any point
// leaves the old file whole, and Run may be called again.
//
// Version 1 is the first, so there is no step yet.
package migrations

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"tbhist/store"
)

// Current is the format that this program writes.
const Current uint32 = 1

// implausible is a version that no release will ever reach: a file that
// claims one was written by something else.
const implausible = 1 << 16

// Step brings a history from one format version to a later one.
type Step struct {
	From, To uint32
	// Run copies everything in src, a history of version From, into dst, an
	// empty file, as version To. src is open for reading only. It ends with
	// the context's error soon after that ends. progress is to be told how
	// many bytes are done of about how many.
	Run func(ctx context.Context, src, dst *bbolt.DB, progress func(done, total int64)) error
}

// steps are in the order of From; each begins where the one before ended,
// and the last ends at Current.
var steps []Step

// NewerError tells that a history was written by a later program.
type NewerError struct {
	// File is the history, "" where it is not known.
	File string
	// Found is its format, Current the newest that this program knows.
	Found, Current uint32
}

// Error says what was found and what to do.
func (e *NewerError) Error() string {
	file := ""
	if e.File != "" {
		file = " " + e.File
	}
	return fmt.Sprintf("history%s has format %d, this tbhist knows up to %d: use a newer tbhist, or another --db", file, e.Found, e.Current)
}

// OlderError tells that a history must be stepped up before it can be used.
type OlderError struct {
	// Found is its format, Current the one that is needed.
	Found, Current uint32
}

// Error says what was found and what is needed.
func (e *OlderError) Error() string {
	return fmt.Sprintf("history has format %d, needed is %d", e.Found, e.Current)
}

// Check tells whether a history of the format found can be used as it is.
// The error is a *NewerError for a later program's, an *OlderError for one
// that Steps can bring up, and wraps store.ErrNotHistory for a version that
// never was.
func Check(found uint32) error {
	path, err := plan(steps, found, Current)
	switch {
	case err != nil:
		return err
	case len(path) > 0:
		return &OlderError{Found: found, Current: Current}
	}
	return nil
}

// Steps names what brings a history of the format found up to Current, in
// order; none for Current itself. The errors are those of Check, without
// *OlderError.
func Steps(found uint32) ([]Step, error) { return plan(steps, found, Current) }

// plan seeks the steps from found to current.
func plan(steps []Step, found, current uint32) ([]Step, error) {
	switch {
	case found == current:
		return nil, nil
	case found > current && found < implausible:
		return nil, &NewerError{Found: found, Current: current}
	}
	for i, s := range steps {
		if s.From == found {
			return steps[i:], nil
		}
	}
	return nil, fmt.Errorf("%w: there is no format %d", store.ErrNotHistory, found)
}
