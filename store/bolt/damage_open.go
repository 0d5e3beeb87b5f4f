package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	berrors "go.etcd.io/bbolt/errors"

	"tbhist/migrations"
	"tbhist/store"
)

// inspection is how carefully a file is looked at before bbolt works on it.
type inspection int

const (
	// inspectStart reads what a start reads, and all that points to the rest.
	inspectStart inspection = iota
	// inspectAll reads every page.
	inspectAll
	// inspectReading changes nothing.
	inspectReading
)

// inspect looks at the pages of the file that was just opened, under its lock,
// and mends what can be. What it found is in f.found.
func (f *file) inspect(how inspection, wait time.Duration) error {
	info, err := f.os.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if err := awaitLock(f.os, how != inspectReading, wait); err != nil {
		return err
	}
	if info, err = f.os.Stat(); err != nil || info.Size() == 0 {
		return err
	}
	p, err := openPages(f.os)
	if errors.Is(err, errNoMeta) {
		return nil // bbolt says what it is not
	}
	if err != nil {
		return err
	}
	if done, err := p.known(); done || err != nil {
		return err
	}
	s, err := takeSurvey(p, how == inspectAll, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if f.spoiled = p.spoiled; f.spoiled {
		f.found = append(f.found, errMetaSpoiled)
	}
	if s.whole() {
		return nil
	}
	if how != inspectReading && locksFirst { // or another may be writing to it
		found, err := mendPages(f.os)
		f.found, f.mended = append(f.found, found...), err == nil && len(found) > 0
		return err
	}
	f.found = append(f.found, s.said()...)
	for i := range s.damage {
		// bbolt would go round in circles.
		if errors.Is(s.damage[i].err, errPageTwice) {
			return fmt.Errorf("%w: %w", store.ErrDamaged, s.said()[i])
		}
	}
	return nil
}

var errMetaSpoiled error = &store.CorruptionError{
	Where: "meta pages", Err: errors.New("one of the two is damaged: the newest commit may be gone"),
}

// known tells whether the file is a history that is to be looked at; done that
// it is a new one.
func (p *pages) known() (done bool, err error) {
	trees, err := p.trees()
	if err != nil {
		// Whose it was is in what is gone.
		return false, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	p.used = newBitset(p.meta.high)
	if len(trees) == 0 && p.meta.tx <= 1 {
		return true, nil
	}
	format, found := p.value(trees, bucketMeta, keyFormat)
	if !found || len(format) != 4 {
		return false, store.ErrNotHistory
	}
	return false, migrations.Check(binary.BigEndian.Uint32(format))
}

// value looks a key up.
func (p *pages) value(trees []tree, bucket, key []byte) (value []byte, found bool) {
	look := func(es []element) {
		for i := range es {
			if string(es[i].key) == string(key) {
				value, found = append([]byte(nil), es[i].value...), true
			}
		}
	}
	at := -1
	for i := range trees {
		if trees[i].name == string(bucket) {
			at = i
		}
	}
	if at < 0 {
		if at = similar(trees, string(bucket)); at < 0 {
			return nil, false
		}
	}
	t := &trees[at]
	if t.root == 0 {
		es, _ := page(t.inline).elements(nil)
		look(es)
		return value, found
	}
	w := treeWalk{leaves: true, from: key, to: key}
	w.leaf = func(_, _ []byte, _ uint64, es []element) { look(es) }
	w.bad = func(_, _ []byte, _ uint64, _ int, _ error) {}
	p.walk(&w, t.root)
	return value, found
}

// awaitLock takes the lock that bbolt will take, which is no other as long as
// it is the same open file.
func awaitLock(f *os.File, exclusive bool, wait time.Duration) error {
	for end := time.Now().Add(wait); ; time.Sleep(lockRetry) {
		locked, err := lock(f, exclusive)
		if locked || err != nil {
			return err
		}
		if !time.Now().Before(end) {
			return berrors.ErrTimeout
		}
	}
}

const lockRetry = 50 * time.Millisecond

// inspectEvery spaces looks at every page: who meets damage again and again
// may not read the whole file each time.
const inspectEvery = 10 * time.Minute

// suspectFile asks for a look at every page, since a page was met that makes
// no sense. Background work opens the file anew for it.
func (db *DB) suspectFile() {
	now := int64(time.Since(born)) + 1
	if was := db.inspected.Load(); (was == 0 || now-was >= int64(inspectEvery)) && db.inspected.CompareAndSwap(was, now) {
		db.suspect.Store(true)
	}
}
