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
}

// lockWait is how long opening waits for another process to let go.
const lockWait = time.Second

// openFile opens or makes the file.
func openFile(path string, maxDB int64) (*file, error) {
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
	return openFileWith(path, o)
}

func openFileWith(path string, o *bbolt.Options) (*file, error) {
	f := &file{}
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		f.os, err = os.OpenFile(name, flag, mode)
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
	f.bolt.AllocSize = 1 << 20
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

var errPanic = errors.New("the file is damaged")

// panicError is a panic met while reading the file. stack is for whoever
// debugs: %+v prints it.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("%v: %v", errPanic, e.value) }
func (e *panicError) Unwrap() error { return errPanic }

// Format adds the stack for %+v.
func (e *panicError) Format(w fmt.State, verb rune) {
	_, _ = io.WriteString(w, e.Error())
	if verb == 'v' && w.Flag('+') {
		_, _ = fmt.Fprintf(w, "\n%s", e.stack)
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
	var id uint64
	begun := false // the commit: before it nothing was written
	err := guard(func() error {
		return db.file.bolt.Update(func(tx *bbolt.Tx) error {
			id = uint64(tx.ID())
			err := fn(tx)
			begun = err == nil
			return err
		})
	})
	if err == nil {
		db.file.synced = id
		return nil
	}
	if errors.Is(err, errPanic) {
		db.file.broken = true
	} else if !begun {
		return err
	}
	return errors.Join(err, db.reopen(layoutHeld))
}

// reopen closes the file, puts its newest synced state back and opens it.
func (db *DB) reopen(layoutHeld bool) error {
	if !layoutHeld {
		db.layout.Lock()
		defer db.layout.Unlock()
	}
	if db.file != nil {
		synced := db.file.synced
		db.lastSynced = synced
		err := db.file.close()
		db.file = nil
		if err != nil {
			return err
		}
	}
	if err := restoreMeta(db.path, db.lastSynced); err != nil {
		return err
	}
	failpoint.Hit("reopen.meta")
	f, err := openFile(db.path, db.o.MaxDB)
	if err != nil {
		return err
	}
	if f.synced != db.lastSynced {
		_ = f.close()
		return fmt.Errorf("%s: transaction %d found where %d was written last", db.path, f.synced, db.lastSynced)
	}
	db.file = f
	return nil
}

// The place of bbolt's meta page's members (its format, version 2).
const (
	metaAt       = 16 // behind the page header
	metaTxID     = metaAt + 48
	metaChecksum = metaAt + 56
	metaMagic    = 0xED0CDAED
)

// restoreMeta puts the meta page of transaction synced in the place of a
// newer one, so that the newer one never was.
func restoreMeta(path string, synced uint64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var pages [2][pageSize]byte
	good, newer := -1, -1
	for i := range pages {
		if _, err := f.ReadAt(pages[i][:], int64(i)*pageSize); err != nil {
			return err
		}
		id, ok := metaID(pages[i][:])
		switch {
		case ok && id == synced:
			good = i
		case ok && id > synced:
			newer = i
		}
	}
	if newer < 0 {
		return nil
	}
	if good < 0 {
		return fmt.Errorf("%s: no meta page of transaction %d", path, synced)
	}
	if _, err := f.WriteAt(pages[good][:], int64(newer)*pageSize); err != nil {
		return err
	}
	failpoint.Hit("reopen.write")
	// If the disk refuses this too, the page cache has it at least; the next
	// commit writes the place anew.
	_ = f.Sync()
	return nil
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
