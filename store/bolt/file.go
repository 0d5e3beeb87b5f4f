package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"tbhist/internal/failpoint"
	"tbhist/store"
)

// file is the open bbolt file.
type file struct {
	bolt *bbolt.DB
	os   *os.File // bbolt's own; it closes it
	// synced is the newest transaction known to be on disk.
	synced uint64
	// broken is set by a panic: the state of bbolt's locks is unknown then.
	broken bool
	// found is what was wrong with the file's pages when it was opened, and was
	// set aside.
	found []error
	// mended tells that a transaction of its own made pages whole.
	mended bool
	// spoiled tells that one of the two meta pages was damaged: the newest commit
	// may be the one that it was of.
	spoiled bool
}

// lockWait is how long opening waits for another process to let go.
const lockWait = time.Second

// openFile opens or makes the file.
func openFile(path string, maxDB int64) (*file, error) { return openFileAs(path, maxDB, inspectStart) }

// openFileAs is openFile with another look at the pages.
func openFileAs(path string, maxDB int64, how inspection) (*file, error) {
	return openFileWith(path, optionsFor(maxDB), how)
}

// optionsFor gives bbolt's options for a file that is written to.
func optionsFor(maxDB int64) *bbolt.Options {
	o := &bbolt.Options{
		Timeout: lockWait,
		// It takes the first free pages of the file, and so keeps large runs
		// of them whole. The map takes any run: the freelist itself, which each
		// commit writes into pages that follow one another, soon finds none,
		// and the file grows, the freelist with it, without end (measured:
		// 46 MiB to 337 MiB and on, docs/PERFORMANCE.md).
		FreelistType: bbolt.FreelistArrayType,
		PageSize:     pageSize,
		MaxSize:      int(maxDB),
	}
	if math.MaxInt > math.MaxInt32 && mapsSparse {
		o.InitialMmapSize = int(maxDB)
	}
	return o
}

func openFileWith(path string, o *bbolt.Options, how inspection) (*file, error) {
	f := &file{}
	open := o.OpenFile
	if open == nil {
		open = os.OpenFile
	}
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		if f.os, err = open(name, flag, mode); err != nil {
			f.os = nil
			return nil, err
		}
		if err = f.inspect(how, o.Timeout); err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", path, err), f.os.Close())
			f.os = nil
		}
		return f.os, err
	}
	err := guard(func() (err error) {
		f.bolt, err = bbolt.Open(path, 0o600, o)
		return err
	})
	switch {
	case err == nil:
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, store.ErrLocked)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return nil, fmt.Errorf("%s: %w (%w)", path, store.ErrNotHistory, err)
	case errors.Is(err, errPanic):
		f.broken = true
		_ = f.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	default:
		return nil, err
	}
	f.bolt.AllocSize = allocBytes
	err = f.view(func(tx *bbolt.Tx) error {
		f.synced = uint64(tx.ID())
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// close closes the file, or lets go of it where bbolt itself may be stuck:
// its lock is released and the mapping is left to the end of the process.
func (f *file) close() error {
	if !f.broken {
		return f.bolt.Close()
	}
	if f.os == nil {
		return nil
	}
	return errors.Join(unlock(f.os), f.os.Close())
}

// view runs a read transaction.
func (f *file) view(fn func(*bbolt.Tx) error) error {
	return guard(func() error { return f.bolt.View(fn) })
}

var errPanic = fmt.Errorf("%w: a page of it makes no sense", store.ErrDamaged)

// panicError is a panic met while reading the file. Its value and stack are for
// whoever debugs: %+v prints them.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return errPanic.Error() }
func (e *panicError) Unwrap() error { return errPanic }

// Format adds the stack for %+v.
func (e *panicError) Format(w fmt.State, verb rune) {
	_, _ = io.WriteString(w, e.Error())
	if verb == 'v' && w.Flag('+') {
		_, _ = fmt.Fprintf(w, ": %v\n%s", e.value, e.stack)
	}
}

// guard runs what touches the mapping: a page that cannot be read or makes
// no sense panics in bbolt, and becomes an error here.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	return fn()
}

// update runs a write transaction under db.writing. After an error nothing
// of it is in the file: the outcome of a commit that failed is unknown, so
// the file is put back to the last synced transaction and opened anew.
// layoutHeld tells that the caller holds db.layout for writing.
func (db *DB) update(layoutHeld bool, fn func(*bbolt.Tx) error) error {
	if db.file == nil {
		if err := db.reopen(layoutHeld); err != nil {
			return err
		}
	}
	if _, err := db.mending.settle(db.file.os, db.file.synced); err != nil {
		return err
	}
	var tx *bbolt.Tx
	var id uint64
	begun := false // the commit: before it nothing was written
	err := guard(func() error {
		return db.file.bolt.Update(func(t *bbolt.Tx) error {
			tx, id = t, uint64(t.ID())
			_, _ = db.makeRoom(t, smallPages) // what needs more than there is fails by itself
			err := fn(t)
			begun = err == nil
			return err
		})
	})
	if err == nil {
		db.file.synced = id
		return nil
	}
	if errors.Is(err, errPanic) {
		// A transaction that could be ended has let go of bbolt's locks.
		db.file.broken = tx == nil || tx.DB() != nil
		db.suspectFile()
	} else if tx != nil && !begun {
		return err
	}
	db.mending.look = db.mending.look || begun
	return errors.Join(err, db.reopen(layoutHeld))
}

// mending is what is known of the file while it is opened anew. Under
// DB.writing.
type mending struct {
	// held holds the lock on the file while there is no DB.file: nobody else may
	// open it between two openings.
	held *os.File
	// look tells that a commit failed: its meta page may have been written.
	look bool
	// doubt tells that it was, and that a disk may have it though it reads
	// otherwise by now. Nothing may be written before that can be no more: it
	// would point to pages that have become others.
	doubt bool
}

// settle puts the meta page of transaction synced in the place of a newer one,
// so that the newer one never was. After an error f may be read if unread is
// false, and not be written to.
func (m *mending) settle(f *os.File, synced uint64) (unread bool, err error) {
	if m.look {
		newer, err := newerMeta(f, synced)
		if err != nil {
			return true, err
		}
		m.look, m.doubt = false, m.doubt || newer
	}
	if !m.doubt {
		return false, nil
	}
	if err := restoreMeta(f, synced); err != nil {
		return true, err
	}
	failpoint.Hit("reopen.write")
	if err := f.Sync(); err != nil {
		return false, err
	}
	m.doubt = false
	return false, nil
}

// letGo gives up the lock that is held.
func (m *mending) letGo() {
	if m.held != nil {
		_ = m.held.Close()
		m.held = nil
	}
}

// reopen closes the file, puts its newest synced state back and opens it.
func (db *DB) reopen(layoutHeld bool) error {
	if !layoutHeld {
		db.layout.Lock()
		defer db.layout.Unlock()
	}
	if db.file != nil {
		db.lastSynced = db.file.synced
		db.mending.held = keepLock(db.file.os)
		err := db.file.close()
		db.file = nil
		if err != nil {
			return err
		}
	}
	how := inspectStart
	if db.suspect.Swap(false) {
		how = inspectAll
	}
	o := optionsFor(db.o.MaxDB)
	o.OpenFile = db.openAgain
	f, err := openFileWith(db.path, o, how)
	if err != nil {
		// Pages may have been mended before it failed, by a transaction that
		// nobody knows of: it is taken back, as one that failed, and mended anew.
		db.mending.look = true
		if how == inspectAll {
			db.suspect.Store(true)
		}
		return err
	}
	db.setAside(f.found)
	want := db.lastSynced
	if f.mended {
		want++
	}
	if f.synced != want {
		_ = f.close()
		return fmt.Errorf("%s: transaction %d found where %d was written last", db.path, f.synced, want)
	}
	db.file = f
	if f.found != nil {
		db.mu.RLock()
		doubtIndexes(db.segs)
		db.mu.RUnlock()
	}
	db.mending.letGo() // the file has the same lock
	return nil
}

// openAgain opens the file for reopen, by the lock that is held if path still
// leads there, and puts the newest synced state back.
func (db *DB) openAgain(path string, flag int, mode os.FileMode) (*os.File, error) {
	m := &db.mending
	info, err := os.Stat(path)
	if err != nil {
		return nil, err // it was taken away, and may come back
	}
	var f *os.File
	if m.held != nil {
		if now, err := m.held.Stat(); err != nil || !os.SameFile(info, now) {
			m.letGo() // the disk was mounted anew
		} else if f, err = anew(m.held); err != nil {
			return nil, err
		}
	}
	if f == nil {
		if f, err = os.OpenFile(path, flag&^os.O_CREATE, mode); err != nil {
			return nil, err
		}
	}
	if m.look || m.doubt {
		err := awaitLock(f, true, lockWait)
		if err == nil {
			var unread bool
			if unread, err = m.settle(f, db.lastSynced); !unread {
				err = nil // update settles it before it writes
			}
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	failpoint.Hit("reopen.meta")
	return f, nil
}

// The place of bbolt's meta page's members (its format, version 2).
const (
	metaAt       = 16 // behind the page header
	metaTxID     = metaAt + 48
	metaChecksum = metaAt + 56
	metaMagic    = 0xED0CDAED
)

// restoreMeta writes the meta page of transaction synced in the place of the
// other one.
func restoreMeta(f *os.File, synced uint64) error {
	var pages [2][pageSize]byte
	good := -1
	for i := range pages {
		if _, err := f.ReadAt(pages[i][:], int64(i)*pageSize); err != nil {
			return err
		}
		if id, ok := metaID(pages[i][:]); ok && id == synced {
			good = i
		}
	}
	if good < 0 {
		return fmt.Errorf("%s: no meta page of transaction %d", f.Name(), synced)
	}
	// Written whatever was found there: after a sync that failed, what is read
	// need not be what is on disk.
	_, err := f.WriteAt(pages[good][:], int64(1-good)*pageSize)
	return err
}

// newerMeta tells whether there is a meta page of a newer transaction.
func newerMeta(f *os.File, synced uint64) (bool, error) {
	var page [pageSize]byte
	for i := range int64(2) {
		if _, err := f.ReadAt(page[:], i*pageSize); err != nil {
			return false, err
		}
		if id, ok := metaID(page[:]); ok && id > synced {
			return true, nil
		}
	}
	return false, nil
}

// metaID gives the transaction of a meta page. bbolt's numbers stand in the
// byte order of the machine.
func metaID(page []byte) (uint64, bool) {
	if binary.NativeEndian.Uint32(page[metaAt:]) != metaMagic {
		return 0, false
	}
	h := fnv.New64a()
	_, _ = h.Write(page[metaAt:metaChecksum])
	return binary.NativeEndian.Uint64(page[metaTxID:]), h.Sum64() == binary.NativeEndian.Uint64(page[metaChecksum:])
}
