package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/internal/disk"
	"tbhist/migrations"
	"tbhist/store"
)

// recover opens the file and brings memory to the state of its head: the
// checkpoint, what stands behind it in segments and log, the limits that
// were in force, then the new ones.
func (db *DB) recover() error { return db.recoverWith(db.applyLimits) }

// recoverWith is recover with what is made of the limits that were in force.
func (db *DB) recoverWith(limit func(old *limits) error) error {
	how := inspectStart
	if db.suspect.Swap(false) {
		how = inspectAll
	}
	f, err := openCurrent(db.path, func() (*file, error) { return openFileAs(db.path, db.o.MaxDB, how) })
	if err != nil {
		return err
	}
	db.file = f
	db.setAside(f.found)
	// Also of a file that is not new: the start that made it may have been
	// killed before this.
	if err := disk.SyncDir(filepath.Dir(db.path)); err != nil {
		return err
	}
	fresh := false
	if err := f.view(func(tx *bbolt.Tx) error {
		fresh, err = isFresh(tx, db.path)
		return err
	}); err != nil {
		return err
	}
	if fresh {
		if err := db.create(); err != nil {
			return err
		}
	} else if err := db.ownEpoch(); err != nil {
		return err
	}
	old, err := db.load()
	if err != nil {
		return err
	}
	if err := limit(old); err != nil {
		return err
	}
	db.countKept()
	db.describe(fresh)
	return nil
}

// load reads what the file has, and gives the limits that were in force.
func (db *DB) load() (old *limits, err error) {
	r := db.reader()
	defer db.release(r)
	err = db.file.view(func(tx *bbolt.Tx) (err error) {
		db.loadMeta(tx)
		if old, err = r.loadLimits(tx); err != nil {
			return err
		}
		db.loadDocs(tx)
		db.loadForgotten(tx)
		db.loadNames(tx)
		db.loadSegments(tx, r)
		from, err := db.loadCheckpoint(tx, r)
		if err != nil {
			return err
		}
		db.loadLog(tx, r, db.replaySegments(tx, r, from))
		db.loadAged(tx, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	db.buryDead()
	db.dropEmptyRings()
	db.markUnsure()
	return old, nil
}

// isFresh tells a new file from a history, and refuses what is neither.
func isFresh(tx *bbolt.Tx, path string) (bool, error) {
	if k, _ := tx.Cursor().First(); k == nil {
		return true, nil
	}
	meta := tx.Bucket(bucketMeta)
	if meta == nil || len(meta.Get(keyFormat)) != 4 {
		return false, fmt.Errorf("%s: %w", path, store.ErrNotHistory)
	}
	if err := migrations.Check(binary.BigEndian.Uint32(meta.Get(keyFormat))); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range allBuckets {
		if tx.Bucket(name) == nil {
			return false, damaged([]byte("file"), nil, fmt.Errorf("bucket %s is missing", name))
		}
	}
	return false, nil
}

func (db *DB) create() error {
	epoch, err := randomEpoch()
	if err != nil {
		return err
	}
	return db.update(false, func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		return errors.Join(
			meta.Put(keyFormat, binary.BigEndian.AppendUint32(nil, migrations.Current)),
			meta.Put(keyEpoch, []byte(epoch)),
			meta.Put(keyCreated, binary.BigEndian.AppendUint64(nil, uint64(db.o.Now().UnixMicro()))),
			meta.Put(keyHead, sealed(binary.BigEndian.AppendUint64(nil, 0))),
			meta.Put(keyIDs, sealed(make([]byte, 8))),
		)
	})
}

// dropEmptyRings lets go of names that were committed without an update:
// there are none but by damage.
func (db *DB) dropEmptyRings() {
	for id, r := range db.rings {
		if r != nil && r.head == 0 {
			// The Thing may have begun anew under another id.
			if db.names[r.name] == r {
				delete(db.names, r.name)
			}
			db.rings[id] = nil
		}
	}
}

// markUnsure marks the rings of which more may be gone than the checkpoint
// knew: all of them, if anything came after it, or went.
func (db *DB) markUnsure() {
	if db.maint.checkpointAt == db.head && !db.maint.lostDirty {
		return
	}
	for _, r := range db.rings {
		if r != nil && !r.gone() {
			r.unsure = r.head
		}
	}
}

func (db *DB) countKept() {
	var kept uint64
	for _, r := range db.rings {
		if r != nil {
			kept += r.head - r.fk.Load() + 1
		}
	}
	db.kept.Store(kept)
}

func (db *DB) describe(fresh bool) {
	if fresh {
		db.opened = "created, empty"
		return
	}
	s := db.State()
	db.opened = "opened, " + counted(uint64(s.Things), "Thing") + ", " + counted(s.Updates, "update")
	if s.Oldest != 0 {
		db.opened += " since " + s.Oldest.Time().Local().Format(time.DateOnly)
	}
}

// counted writes how many of something there are.
func counted(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return grouped(n) + " " + what + "s"
}

// grouped writes a number with a comma after each three digits.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// damage counts and reports damage that is set aside.
func (db *DB) damage(err error) {
	if errors.Is(err, errPanic) {
		db.suspectFile()
	}
	db.metrics.DamagedRecords.Inc()
	db.log.Error("damage in the history is set aside", "err", err)
}

// damageSaid is how many places of damage are logged one by one.
const damageSaid = 20

// setAside counts and reports what was wrong with the file's pages.
func (db *DB) setAside(found []error) {
	db.metrics.DamagedRecords.Add(float64(len(found)))
	for i, err := range found {
		if i == damageSaid {
			db.log.Error("more damage in the history is set aside", "places", len(found)-i)
			return
		}
		db.log.Error("damage in the history is set aside", "err", err)
	}
}

func (db *DB) reader() *reader {
	r := db.readers.Get().(*reader)
	r.bytes = 0
	return r
}

func (db *DB) release(r *reader) { db.readers.Put(r) }
