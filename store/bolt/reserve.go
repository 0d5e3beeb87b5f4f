package bolt

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Giving space back takes some first: a page is free only when what no longer
// names it is on disk. So a part of the file stays free for that. The file
// grows before it must, while the disk lets it and up to MaxDB; where it cannot,
// appending ends at the reserve, and what gives space back goes on.
const (
	// reservePages is how many pages that is.
	reservePages = 256
	// heldBackPages is below how many pages the input waits until background work has given back what it can.
	heldBackPages = 2 * reservePages
	// crampedPages is below how many pages background work gives
	// back whatever can be given back.
	crampedPages = 4 * reservePages
	// smallPages is what a transaction takes beside what it writes.
	smallPages = 32
	// growBytes is by how much the file grows.
	growBytes = 1 << 20
	// allocBytes is what bbolt adds where it grows the file itself. It uses no
	// page that lies less than that below MaxDB.
	allocBytes = 64 << 10
)

// space is what is known of the room in the file. Its writer holds DB.writing.
type space struct {
	// left is how many pages there are yet, up to MaxDB or to the end of a file
	// that cannot grow, and one more; 0 while that is not known.
	left atomic.Int64
	// wanted is how many the last batch needed.
	wanted atomic.Int64
	// allocated is the file whose space was allocated up to its end.
	allocated *file
}

// noRoomError refuses what would need the reserve of a file that cannot grow.
type noRoomError struct{ err error }

func (e *noRoomError) Error() string { return fmt.Sprintf("the history file cannot grow: %v", e.err) }
func (e *noRoomError) Unwrap() error { return e.err }

// makeRoom grows the file where it has less than the reserve behind what was
// ever used, and what a transaction of about so many pages takes; cannot is
// why it did not. The space is taken on the disk itself: a full one is known
// before it is written to.
func (db *DB) makeRoom(tx *bbolt.Tx, pages int64) (left int64, cannot error) {
	f, st := db.file, db.file.bolt.Stats()
	info, err := f.os.Stat()
	if err != nil {
		return math.MaxInt64, nil // what is written fails, and the file is opened anew
	}
	free, top, size := int64(st.FreePageN+st.PendingPageN), tx.Size(), info.Size()
	want := top + (reservePages+max(0, pages-free))*pageSize
	if size < want {
		want = min((want+growBytes-1)/growBytes*growBytes, db.o.MaxDB)
	}
	if size < want || db.space.allocated != f {
		switch err := allocate(f.os, top, max(size, want)); {
		case err == nil:
			size = max(size, want)
			db.space.allocated = f
		case isFullDisk(err):
			cannot = err
		}
	}
	end := db.o.MaxDB - allocBytes // so far pages may be used, and no further
	if cannot != nil {
		end = min(end, size)
	}
	left = free + max(0, end-top)/pageSize
	db.space.left.Store(left + 1)
	return left, cannot
}

// errTooLarge refuses a batch that an empty file of MaxDB could not take.
var errTooLarge = errors.New("one batch is larger than --max-db can ever hold")

// demandRoom is makeRoom for a batch, which does without the reserve. For one
// that never fits nothing is made ready, or all that is old would go in vain.
func (db *DB) demandRoom(tx *bbolt.Tx, pages int64) error {
	if pages+reservePages > (db.o.MaxDB-allocBytes)/pageSize {
		return errTooLarge
	}
	db.space.wanted.Store(pages)
	return db.spareReserve(tx, pages)
}

// spareReserve is makeRoom for what gives no space back, and so does without
// the reserve.
func (db *DB) spareReserve(tx *bbolt.Tx, pages int64) error {
	return db.roomFor(tx, pages, reservePages)
}

// roomFor is makeRoom for what is not tried unless so many pages are left, and
// others beside them.
func (db *DB) roomFor(tx *bbolt.Tx, pages, others int64) error {
	left, cannot := db.makeRoom(tx, pages)
	switch {
	case left >= pages+others:
		return nil
	case cannot == nil:
		return berrors.ErrMaxSizeReached
	}
	return &noRoomError{cannot}
}

// isFullDisk tells that there is no space, rather than something wrong, which
// writing meets by itself.
func isFullDisk(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// pagesLeft gives how many pages there are yet; many while that is not known.
func (db *DB) pagesLeft() int64 {
	if left := db.space.left.Load(); left > 0 {
		return left - 1
	}
	return math.MaxInt64 / pageSize
}

// isCramped tells that little is left.
func (db *DB) isCramped() bool { return db.pagesLeft() < crampedPages }

// isFull tells that so little is left that the input waits.
func (db *DB) isFull() bool {
	return db.pagesLeft() < max(heldBackPages, db.space.wanted.Load()+reservePages)
}

// mostAtOnce bounds what background work writes before it gives back what that
// replaces.
func (db *DB) mostAtOnce(bytes int64) int64 { return min(bytes, db.pagesLeft()*pageSize/3) }

// pagesFor is about what a transaction takes that writes so many bytes.
func pagesFor(bytes int64) int64 { return bytes*3/2/pageSize + smallPages }

// stagedPages is about what the staged batch takes.
func (db *DB) stagedPages() int64 {
	s := &db.stage
	return pagesFor(int64(len(s.stored)) + int64(len(s.fresh)+len(s.docs))*340)
}

// fill writes zeros behind the end of the file.
func fill(f *os.File, to int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 64<<10)
	for at := info.Size(); at < to; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-at)], at); err != nil {
			return err
		}
	}
	return nil
}
