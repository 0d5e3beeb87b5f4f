package bolt

import (
	"context"
	"sort"

	"tbhist/store"
	"tbhist/thing"
)

// usageWithin is how far apart the updates of one block may have been received
// for its oldest to stand for each of them.
const usageWithin thing.Micros = 1e6

// usage gathers what history holds of each Thing, from the moment on when it
// was begun.
type usage struct {
	rings []*ring
	// By Thing id: what was kept at that moment, the thing_seq up to which was
	// counted, and what was found.
	fk, head, counted []uint64
	bytes             []int64
	oldest            []thing.Micros
}

// Usage calls yield with what history holds of each Thing, in no order, until
// it returns false. Things and updates that come meanwhile are left out. It
// reads the index and few blocks, takes memory by the number of Things, and
// holds no transaction for longer than a segment takes. Oldest is true to a
// second.
//
// Errors: store.ErrClosed, the context's, or what the system says.
func (db *DB) Usage(ctx context.Context, yield func(store.ThingUsage) bool) error {
	if err := db.isClosing(ctx); err != nil {
		return err
	}
	u := db.newUsage()
	for after, more := uint64(0), true; more; {
		if err := db.isClosing(ctx); err != nil {
			return err
		}
		if err := db.viewWith(true, func(s *snapshot) error {
			i := sort.Search(len(s.segs), func(i int) bool { return s.segs[i].last > after })
			if more = i < len(s.segs); more {
				after = s.segs[i].last
				u.addSegment(s, s.segs[i])
				return nil
			}
			u.addLog(s)
			return nil
		}); err != nil {
			return err
		}
	}
	for id, r := range u.rings {
		if r == nil || u.head[id] == 0 {
			continue
		}
		t := store.ThingUsage{
			Name: r.name, Updates: u.head[id] - u.fk[id] + 1, Bytes: u.bytes[id], Oldest: u.oldest[id],
		}
		db.mu.RLock()
		gone := r.gone()
		t.Newest, t.Limit = r.latest.received, r.limit
		db.mu.RUnlock()
		if gone {
			continue
		}
		if !yield(t) {
			return nil
		}
	}
	return nil
}

// Usage is that of DB.
func (r *ReadOnly) Usage(ctx context.Context, yield func(store.ThingUsage) bool) error {
	return r.db.Usage(ctx, yield)
}

func (db *DB) newUsage() *usage {
	db.mu.RLock()
	defer db.mu.RUnlock()
	n := len(db.rings)
	u := &usage{
		rings: db.rings, fk: make([]uint64, n), head: make([]uint64, n), counted: make([]uint64, n),
		bytes: make([]int64, n), oldest: make([]thing.Micros, n),
	}
	for id, r := range db.rings {
		if r != nil && !r.gone() {
			u.fk[id], u.head[id] = r.fk.Load(), r.head
		}
	}
	return u
}

// addSegment takes in what a segment has. It may have been joined with one that
// was taken in before.
func (u *usage) addSegment(s *snapshot, seg *segment) {
	type first struct {
		id    uint32
		block uint32
	}
	var firsts []first
	var e chunkEntry
	err := s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool {
		if uint64(e.id) >= uint64(len(u.head)) {
			return true
		}
		from := max(e.first, u.fk[e.id], u.counted[e.id]+1)
		to := min(e.last(), u.head[e.id])
		if from > to {
			return true
		}
		if u.fk[e.id] >= e.first && u.fk[e.id] <= e.last() {
			firsts = append(firsts, first{e.id, e.blocks[u.fk[e.id]-e.first]})
		}
		for _, size := range e.sizes[from-e.first : to-e.first+1] {
			u.bytes[e.id] += int64(size)
		}
		u.counted[e.id] = to
		return true
	})
	if err != nil {
		s.damage(err)
	}
	if len(firsts) == 0 {
		return
	}
	table, err := s.loadBlocks(s.tx, seg, nil)
	if err != nil {
		s.damage(err)
		return
	}
	needed := make([]bool, len(table))
	for _, f := range firsts {
		if uint64(f.block) >= uint64(len(table)) {
			continue
		}
		if b := &table[f.block]; b.span.maxReceived-b.span.minReceived <= usageWithin {
			u.oldest[f.id] = b.span.minReceived
		} else {
			needed[f.block] = true
		}
	}
	c := s.tx.Bucket(bucketBlocks).Cursor()
	for no := range table {
		if !needed[no] {
			continue
		}
		es, err := s.readBlock(c, seg, no, table[no], s.entries)
		if err != nil {
			s.damage(err)
			continue
		}
		s.entries = es
		u.noteOldest(es)
	}
}

func (u *usage) noteOldest(es []entry) {
	for i := range es {
		if e := &es[i]; uint64(e.id) < uint64(len(u.head)) && u.head[e.id] != 0 && e.thingSeq == u.fk[e.id] {
			u.oldest[e.id] = e.received
		}
	}
}

// addLog takes in what the log has of each Thing: its newest updates.
func (u *usage) addLog(s *snapshot) {
	left := make([]uint64, len(u.head)) // of each Thing, not yet come to
	for _, rec := range s.records {
		for _, id := range rec.ids {
			if uint64(id) < uint64(len(left)) {
				left[id]++
			}
		}
	}
	c := s.tx.Bucket(bucketLog).Cursor()
	for _, rec := range s.records {
		read := false
		for i, id := range rec.ids {
			if uint64(id) >= uint64(len(left)) {
				continue
			}
			left[id]--
			n := s.heads[id] - left[id]
			if n <= u.counted[id] || n < u.fk[id] || n > u.head[id] {
				continue
			}
			u.counted[id] = n
			u.bytes[id] += int64(rec.sizes[i])
			if n != u.fk[id] {
				continue
			}
			u.oldest[id] = rec.span.minReceived
			read = read || rec.span.maxReceived-rec.span.minReceived > usageWithin
		}
		if !read {
			continue
		}
		es, err := s.readLog(c, rec, s.entries)
		if err != nil {
			s.damage(err)
			continue
		}
		s.entries = es
		u.noteOldest(es)
	}
}
