package bolt

import (
	"encoding/binary"
	"errors"

	"go.etcd.io/bbolt"
)

// rebuild makes segments of the blocks from seq from to seq to, whose heads are
// gone. What no block says anything of is a segment that holds nothing.
func (r *reader) rebuild(tx *bbolt.Tx, from, to uint64) []*segment {
	var segs []*segment
	next := from
	hole := func(last uint64) {
		if next <= last {
			segs = append(segs, &segment{unit: unit{first: next, last: last, span: emptySpan()}, damaged: true})
			next = last + 1
		}
	}
	firsts := r.segmentsIn(tx, from, to)
	for i, first := range firsts {
		last := to
		if i+1 < len(firsts) {
			last = firsts[i+1] - 1
		}
		table := r.tableOf(tx, first)
		u := unit{first: first, last: last, span: emptySpan()}
		for _, b := range table {
			if b.count > 0 {
				u.count, u.bytes = u.count+b.count, u.bytes+b.bytes
				u.span.join(b.span)
				u.last = max(u.last, b.last)
			}
		}
		if u.count == 0 || u.last > last {
			continue // what they hold is none of this range
		}
		hole(first - 1)
		seg := &segment{unit: u, table: table}
		seg.live.Store(int64(u.count))
		seg.liveBytes.Store(u.bytes)
		segs = append(segs, seg)
		next = last + 1
	}
	hole(to)
	return segs
}

// segmentsIn gives the first seqs of the segments in a range that have blocks.
func (r *reader) segmentsIn(tx *bbolt.Tx, from, to uint64) (firsts []uint64) {
	c := tx.Bucket(bucketBlocks).Cursor()
	for at := from; at <= to; {
		found := false
		if guard(func() error {
			if k, _ := c.Seek(seqKey(at)); len(k) == 12+pieceNoBytes {
				at, found = binary.BigEndian.Uint64(k), true
			}
			return nil
		}) != nil || !found || at > to {
			return firsts
		}
		firsts = append(firsts, at)
		at++
	}
	return firsts
}

// tableOf makes up for a head that is gone: it reads every block of its
// segment. One that cannot be read holds nothing.
func (r *reader) tableOf(tx *bbolt.Tx, first uint64) []unit {
	c := tx.Bucket(bucketBlocks).Cursor()
	n := -1
	if guard(func() error {
		k, _ := c.Seek(seqKey(first + 1))
		if k == nil {
			k, _ = c.Last()
		} else {
			k, _ = c.Prev()
		}
		if inSegment(k, first) {
			n = int(binary.BigEndian.Uint32(k[8:]))
		}
		return nil
	}) != nil || n >= maxRebuilt {
		return nil
	}
	var table []unit
	last := first - 1
	for no := range uint32(n + 1) {
		u := unit{first: last, last: last, span: emptySpan()}
		if raw, err := r.read(bucketBlocks, c, subKey(first, no), kindBatch); err == nil {
			if es, err := decodeBatch(raw, r.entries); err == nil && es[0].seq > last {
				r.entries = es
				u = unit{
					first: es[0].seq, last: es[len(es)-1].seq, count: len(es),
					bytes: storedBytes(envelopeBytes+len(r.stored), 12), span: emptySpan(),
				}
				for i := range es {
					u.span.add(&es[i])
				}
			}
		}
		last = max(last, u.last)
		table = append(table, u)
	}
	return table
}

// maxRebuilt bounds how many blocks a segment may be taken to have.
const maxRebuilt = 1 << 20

// loadTail makes segments of blocks behind the last head: damage took the heads
// of the last segments.
func (db *DB) loadTail(tx *bbolt.Tx, r *reader, next uint64) {
	to := db.head
	_ = guard(func() error { // what is wrong there is said where the log is read
		if k, _ := tx.Bucket(bucketLog).Cursor().First(); len(k) == 8+pieceNoBytes {
			to = binary.BigEndian.Uint64(k) - 1
		}
		return nil
	})
	if to < next || to == ^uint64(0) || len(r.segmentsIn(tx, next, to)) == 0 {
		return
	}
	db.damage(damaged(bucketHeads, seqKey(next), errors.New("the heads of the last segments are missing")))
	db.segs = append(db.segs, r.rebuild(tx, next, to)...)
}

// sound looks at the pages that hold the segments from first to last, before
// they are deleted: bbolt would free whatever a damaged one says. What is
// damaged is mended. The background work's own.
func (db *DB) sound(first, last uint64) error {
	db.writing.Lock()
	defer db.writing.Unlock()
	if db.file == nil {
		return nil // the transaction will tell
	}
	p, err := openPages(db.file.os)
	if err != nil {
		return err
	}
	trees, err := p.trees()
	if err == nil {
		for _, t := range trees {
			if t.root == 0 || (t.name != string(bucketIndex) && t.name != string(bucketBlocks)) {
				continue
			}
			w := treeWalk{leaves: true, from: seqKey(first), to: seqKey(last + 1), leaf: func(_, _ []byte, _ uint64, _ []element) {}}
			w.bad = func(_, _ []byte, _ uint64, _ int, e error) { err = e }
			p.walk(&w, t.root)
		}
	}
	if err == nil {
		return nil
	}
	db.suspect.Store(true)
	return db.reopen(false)
}
