package bolt

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/store"
	"tbhist/thing"
)

// ReadOnly is a history that is read and never written: a backup, or the file
// of a broker that is stopped. Nothing in the file changes, whatever state it
// was left in: what a start would write down is in memory alone. While it is
// open no broker can open the file, but others may read it.
type ReadOnly struct{ db *DB }

// readOnlyLockWait is how long OpenReadOnly waits for another process to let
// go.
const readOnlyLockWait = 500 * time.Millisecond

// OpenReadOnly opens the history at path for reading, with the limits that
// its broker had; Options' Logger, Metrics and Now count, and nothing else of
// them. The errors are those of Open; a file that is not there is one of the
// system's.
func OpenReadOnly(path string, o Options) (*ReadOnly, error) {
	db, err := newDB(path, Options{Logger: o.Logger, Metrics: o.Metrics, Now: o.Now, readBudget: o.readBudget})
	if err != nil {
		return nil, err
	}
	close(db.finished) // there is no background work to wait for
	if err := db.opening(db.recoverReadOnly); err != nil {
		return nil, err
	}
	return &ReadOnly{db}, nil
}

// statHistory refuses what can be no history: bbolt would wait for a pipe, and
// write to an empty file.
func statHistory(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case !info.Mode().IsRegular(), info.Size() == 0:
		return nil, notHistory(path)
	}
	return info, nil
}

func notHistory(path string) error { return fmt.Errorf("%s: %w", path, store.ErrNotHistory) }

// openFileReadOnly opens the file with a lock that others may share.
func openFileReadOnly(path string) (*file, error) {
	if _, err := statHistory(path); err != nil {
		return nil, err
	}
	return openFileWith(path, &bbolt.Options{Timeout: readOnlyLockWait, PageSize: pageSize, ReadOnly: true}, inspectReading)
}

// recoverReadOnly is recover without what writes. Limits that were changed in
// the file's last moments hold as they were written.
func (db *DB) recoverReadOnly() error {
	f, err := openFileReadOnly(db.path)
	if err != nil {
		return err
	}
	return db.recoverFrom(f)
}

// recoverFrom does so from the open file.
func (db *DB) recoverFrom(f *file) error {
	db.file = f
	db.setAside(f.found)
	if err := f.view(func(tx *bbolt.Tx) error {
		fresh, err := isFresh(tx, db.path)
		if err == nil && fresh {
			err = fmt.Errorf("%s: %w", db.path, store.ErrNotHistory)
		}
		return err
	}); err != nil {
		return err
	}
	old, err := db.load()
	if err != nil {
		return err
	}
	if err := db.applyOld(old); err != nil {
		return err
	}
	db.countKept()
	db.describe(false)
	return nil
}

// Read is that of store.Store.
func (r *ReadOnly) Read(ctx context.Context, q store.Query, yield func(*thing.Update) bool) (store.Page, error) {
	return r.db.Read(ctx, q, yield)
}

// Latest is that of store.Store.
func (r *ReadOnly) Latest(yield func(u *thing.Update, doc []byte) bool) error {
	return r.db.Latest(yield)
}

// State is that of store.Store.
func (r *ReadOnly) State() store.State { return r.db.State() }

// Summary says in a few words what OpenReadOnly found.
func (r *ReadOnly) Summary() string { return r.db.Summary() }

// Close closes the file. Readings under way end with store.ErrClosed.
func (r *ReadOnly) Close() error {
	db := r.db
	if db.closeBegun.Swap(true) {
		return store.ErrClosed
	}
	close(db.closing)
	db.layout.Lock()
	defer db.layout.Unlock()
	db.closed = true
	err := db.file.close() // waits for readings
	db.file = nil
	db.codecs.close()
	if err != nil {
		return fmt.Errorf("closing the history %s: %w", db.path, err)
	}
	return nil
}
