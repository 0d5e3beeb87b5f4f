package bolt

import (
	"errors"

	"go.etcd.io/bbolt"

	"tbhist/internal/failpoint"
)

// seal makes a segment of the oldest records of the log, about
// segmentTarget updates. It tells whether there were any.
func (db *DB) seal() (bool, error) {
	var out *built
	var gone losses
	taken := 0
	evicted := db.evicted.Load()
	err := db.view(func(s *snapshot) error {
		var count int
		var bytes int64
		most := db.mostAtOnce(db.segmentBytes())
		for _, rec := range s.records {
			if count >= segmentTarget || bytes >= most {
				break
			}
			count, bytes, taken = count+rec.count, bytes+rec.bytes, taken+1
		}
		if taken == 0 {
			return nil
		}
		first := uint64(1)
		if n := len(s.segs); n > 0 {
			first = s.segs[n-1].last + 1
		}
		b := &db.maint.sealing
		b.begin(db.codecs, s.docs, s.firstKept(), evicted, first, s.records[taken-1].last)
		c := s.tx.Bucket(bucketLog).Cursor()
		for _, rec := range s.records[:taken] {
			es, err := s.readLog(c, rec, s.entries)
			if err != nil {
				db.damage(err)
				continue
			}
			s.entries = es
			b.addKept(s.reader, es, &gone)
		}
		out = b.finish()
		return nil
	})
	if err != nil || taken == 0 {
		return false, err
	}
	if err := db.sound(out.first, out.last); err != nil {
		return false, err
	}
	err = db.restructure(func(tx *bbolt.Tx) error {
		// Where damage took the head of a last segment, the range has what is
		// left of it: its index may not be taken for the new one's.
		if err := deleteSegments(tx, out.first, out.last); err != nil {
			return err
		}
		if err := out.put(tx); err != nil {
			return err
		}
		// What age evicted of these updates is not in the segment.
		if err := errors.Join(db.putAged(tx), db.putLost(tx, &gone)); err != nil {
			return err
		}
		failpoint.Hit("seal.commit")
		return deleteRecords(tx.Bucket(bucketLog), seqKey(0), seqKey(out.last+1))
	}, func() {
		failpoint.Hit("seal.after")
		db.segs = append(db.segs, out.segment())
		db.records = append([]*logRecord(nil), db.records[taken:]...)
		db.sumLogged()
		db.noteLost(&gone)
	})
	if err != nil {
		return false, err
	}
	db.maint.agedDirty = false
	db.maint.owed++
	db.giveRoom()
	return true, nil
}

// giveRoom lets a waiting Append look again.
func (db *DB) giveRoom() {
	select {
	case db.room <- struct{}{}:
	default:
	}
}

// restructure runs a transaction that moves what snapshots point to; apply
// brings memory along, under mu. No snapshot begins between the two.
func (db *DB) restructure(fn func(*bbolt.Tx) error, apply func()) error {
	db.writing.Lock()
	defer db.writing.Unlock()
	db.layout.Lock()
	defer db.layout.Unlock()
	if err := db.update(true, fn); err != nil {
		return err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	apply()
	return nil
}
