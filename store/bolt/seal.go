package bolt

import (
	"math"

	"go.etcd.io/bbolt"
)

// seal makes a segment of the oldest records of the log, about
// segmentTarget updates. It tells whether there were any.
func (db *DB) seal() (bool, error) {
	var out *built
	gone := make(losses)
	taken := 0
	err := db.view(func(s *snapshot) error {
		var count int
		var bytes int64
		for _, rec := range s.records {
			if count >= segmentTarget || bytes >= db.segmentBytes() {
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
		b := newBuilder(db.codecs, s.docs, first, s.records[taken-1].last)
		kept := s.firstKept()
		c := s.tx.Bucket(bucketLog).Cursor()
		for _, rec := range s.records[:taken] {
			got, err := s.readLog(c, rec, s.entries)
			if err != nil {
				db.damage(err)
				continue
			}
			s.entries = got
			for i := range got {
				e := &got[i]
				if kept.has(e) {
					b.add(e)
				} else {
					gone.add(e)
				}
			}
		}
		out = b.finish()
		return nil
	})
	if err != nil || taken == 0 {
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
		if err := db.putAged(tx); err != nil {
			return err
		}
		return deleteRecords(tx.Bucket(bucketLog), seqKey(0), seqKey(out.last+1))
	}, func() {
		db.segs = append(db.segs, out.segment())
		for _, rec := range db.records[:taken] {
			db.logged.count -= rec.count
			db.logged.bytes -= rec.bytes
		}
		db.records = append([]*logRecord(nil), db.records[taken:]...)
		db.noteLost(gone)
	})
	if err != nil {
		return false, err
	}
	db.maint.agedDirty = false
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

// losses gathers, by Thing id, updates whose bytes go from the file.
type losses map[uint32]lost

func (l losses) add(e *entry) {
	was, ok := l[e.id]
	if !ok {
		was = lost{received: math.MinInt64, ts: math.Inf(-1)}
	}
	l[e.id] = lost{
		thingSeq: max(was.thingSeq, e.thingSeq), seq: max(was.seq, e.seq),
		received: max(was.received, e.received), ts: max(was.ts, e.ts),
	}
}

// noteLost remembers them. Under mu.
func (db *DB) noteLost(gone losses) {
	for id, l := range gone {
		r := db.rings[id]
		if r == nil {
			continue
		}
		if was := r.lost; was.thingSeq > 0 {
			l.thingSeq, l.seq = max(l.thingSeq, was.thingSeq), max(l.seq, was.seq)
			l.received, l.ts = max(l.received, was.received), max(l.ts, was.ts)
		}
		r.lost = l
		if l.thingSeq > r.unsure {
			r.unsure = 0 // whatever it was lies below
		}
		db.maint.lostDirty = true
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
