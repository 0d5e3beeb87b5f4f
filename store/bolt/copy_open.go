package bolt

import (
	"errors"
	"fmt"
	"os"

	"tbhist/store"
)

// openCurrent opens the file that path names. One that another took the place
// of while its lock was waited for would take everything with it.
func openCurrent(path string, open func() (*file, error)) (*file, error) {
	for range 10 {
		f, err := open()
		if err != nil {
			return nil, err
		}
		if f.isAt(path) {
			return f, nil
		}
		if err := f.close(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: %w", path, store.ErrLocked)
}

// isAt tells whether path still names the file.
func (f *file) isAt(path string) bool {
	here, err := f.os.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(here, there)
}

// openExclusive opens the history at path, which must be there, so that nobody
// else can. Nothing is written to it.
func openExclusive(path string) (*file, error) {
	return openCurrent(path, func() (*file, error) {
		info, err := statHistory(path)
		if err != nil {
			return nil, err
		}
		return openFileAs(path, max(DefaultMaxDB, info.Size()), inspectReading)
	})
}

// openToCopy opens the history at path, so that nobody else can, and brings
// memory to the state of its head. Nothing is written to it.
func openToCopy(path string) (*DB, error) {
	db, err := newDB(path, Options{MaxDB: DefaultMaxDB})
	if err != nil {
		return nil, err
	}
	close(db.finished) // there is no background work to wait for
	if err := db.opening(func() error {
		f, err := openExclusive(path)
		if err != nil {
			return err
		}
		return db.recoverFrom(f)
	}); err != nil {
		return nil, err
	}
	return db, nil
}

// clearAside removes what an earlier run left under a name of our own, unless
// somebody is writing it now.
func clearAside(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if free, err := lock(f, true); err != nil {
		return err
	} else if !free {
		return fmt.Errorf("%s: %w", path, store.ErrLocked)
	}
	return os.Remove(path)
}
