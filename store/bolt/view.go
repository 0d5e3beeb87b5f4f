package bolt

import (
	"errors"
	"math"

	"go.etcd.io/bbolt"

	"tbhist/store"
)

// snapshot is one moment of the history: a read transaction and what was in
// memory when it began. It lives as long as view's function.
type snapshot struct {
	*reader
	tx      *bbolt.Tx
	segs    []*segment
	records []*logRecord
	rings   []*ring
	docs    [][]byte
	head    uint64
	// heads are the rings' heads at that moment, if asked for.
	heads []uint64
	// logStart is the seq up to which segments reach.
	logStart uint64
	damage   func(error)
	// stop, unless nil, says why a long walk should end.
	stop func() error
}

func (s *snapshot) stopped() error {
	if s.stop == nil {
		return nil
	}
	return s.stop()
}

// firstKept is the first kept thing_seq of each Thing at one moment, by id.
// Whoever writes a segment goes by it: with limits that move meanwhile, an
// older update of a Thing could be taken and a newer one left out, and the
// index says of each Thing only where it begins and how many there are.
type firstKept []uint64

func (s *snapshot) firstKept() firstKept {
	kept := make(firstKept, len(s.rings))
	for id, r := range s.rings {
		kept[id] = math.MaxUint64
		if r != nil {
			kept[id] = r.fk.Load()
		}
	}
	return kept
}

func (k firstKept) has(e *entry) bool { return uint64(e.id) < uint64(len(k)) && e.thingSeq >= k[e.id] }

var errUnavailable = errors.New("the history file could not be opened again")

// view runs fn on a snapshot.
func (db *DB) view(fn func(*snapshot) error) error { return db.viewAt(nil, fn) }

// viewWith runs fn on a snapshot, with the rings' heads if asked for.
func (db *DB) viewWith(heads bool, fn func(*snapshot) error) error {
	if !heads {
		return db.viewAt(nil, fn)
	}
	return db.viewAt(func(s *snapshot) {
		s.heads = make([]uint64, len(s.rings))
		for i, r := range s.rings {
			if r != nil {
				s.heads[i] = r.head
			}
		}
	}, fn)
}

// viewAt runs fn on a snapshot. also, unless nil, sees what memory says at
// that moment: under mu.
func (db *DB) viewAt(also func(*snapshot), fn func(*snapshot) error) error {
	s := &snapshot{damage: db.damage}
	db.layout.RLock()
	if db.closed || db.file == nil {
		defer db.layout.RUnlock()
		if db.closed {
			return store.ErrClosed
		}
		return errUnavailable
	}
	// What memory says first: then everything in it is in the transaction.
	db.mu.RLock()
	s.segs, s.records, s.rings, s.docs, s.head = db.segs, db.records, db.rings, db.docs.byID, db.head
	if n := len(s.segs); n > 0 {
		s.logStart = s.segs[n-1].last
	}
	if also != nil {
		also(s)
	}
	db.mu.RUnlock()
	tx, err := db.file.bolt.Begin(false)
	db.layout.RUnlock()
	if err != nil {
		return err
	}
	s.tx = tx
	s.reader = db.reader()
	defer db.release(s.reader)
	err = guard(func() error { return fn(s) })
	if errors.Is(err, errPanic) {
		db.suspectFile()
	}
	return errors.Join(err, guard(tx.Rollback))
}
