package bolt

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/migrations"
	"tbhist/store"
)

// recover opens the file and brings memory to the state of its head: the
// checkpoint, what stands behind it in segments and log, the limits that
// were in force, then the new ones.
func (db *DB) recover() error {
	_, statErr := os.Stat(db.path)
	f, err := openFile(db.path, db.o.MaxDB)
	if err != nil {
		return err
	}
	db.file = f
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
		if errors.Is(statErr, os.ErrNotExist) {
			if err := syncDir(filepath.Dir(db.path)); err != nil {
				return err
			}
		}
	}
	old, err := db.load()
	if err != nil {
		return err
	}
	if err := db.applyLimits(old); err != nil {
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
		if err := db.loadMeta(tx); err != nil {
			return err
		}
		if old, err = r.loadLimits(tx); err != nil {
			return err
		}
		db.loadDocs(tx)
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
	epoch := make([]byte, 4)
	if _, err := rand.Read(epoch); err != nil {
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
			meta.Put(keyEpoch, []byte(hex.EncodeToString(epoch))),
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
// knew: all of them, if anything came after it.
func (db *DB) markUnsure() {
	if db.maint.checkpointAt == db.head {
		return
	}
	for _, r := range db.rings {
		if r != nil {
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
	db.opened = fmt.Sprintf("opened, %s Things, %s updates", grouped(uint64(s.Things)), grouped(s.Updates))
	if s.Oldest != 0 {
		db.opened += " since " + s.Oldest.Time().Local().Format(time.DateOnly)
	}
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
	db.metrics.DamagedRecords.Inc()
	db.log.Error("damage in the history is set aside", "err", err)
}

// syncDir makes a new file's name durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (db *DB) reader() *reader {
	r := db.readers.Get().(*reader)
	r.bytes = 0
	return r
}

func (db *DB) release(r *reader) { db.readers.Put(r) }
