package bolt

import (
	"errors"

	"tbhist/store"
	"tbhist/thing"
)

// evictedIn counts the updates the question is about, behind the position,
// that are evicted. Those whose bytes are still in the file are counted one
// by one. Of those that are gone only their number and upper bounds of their
// seq and times are known: they count nothing if they lie below the question's
// lower bounds, and else as many as there may be.
func (r *reading) evictedIn() (n uint64, exact bool, err error) {
	q := &r.q
	timed := q.Since != nil || q.Until != nil
	if q.Last > 0 && r.pos.first && !timed && q.UpTo == 0 && q.After == 0 {
		r.eachSelected(func(id uint32) {
			asked, kept := min(q.Last, r.heads[id]), r.heads[id]+1-min(r.heads[id]+1, r.rings[id].fk.Load())
			n += asked - min(asked, kept)
		})
		return n, q.Limit == 0, nil
	}
	if r.at == 0 && !timed && q.UpTo == 0 && q.Last == 0 {
		return r.evictedOf(r.sel), q.Limit == 0, nil
	}
	var ids []uint32
	room := make(map[uint32]uint64) // evicted of each Thing, none counted yet
	r.eachSelected(func(id uint32) {
		// Below its bound nothing is among the newest so many.
		fk, from := r.rings[id].fk.Load(), max(r.pos.bound(id), 1)
		if fk <= from {
			return
		}
		ids = append(ids, id)
		room[id] = fk - from
		if q.Last > 0 {
			room[id] = min(room[id], q.Last)
		}
	})
	if len(ids) == 0 {
		return 0, true, nil
	}
	sel := newSelection(ids)
	err = r.stillThere(sel, func(e *entry) {
		if room[e.id] > 0 {
			n++
			room[e.id]--
		}
	})
	exact = q.Last == 0 && q.Limit == 0
	unsure := make(map[uint32]uint64)
	for _, id := range ids {
		l, known := r.db.lostOf(r.rings[id])
		switch {
		case l.thingSeq == 0 && known:
		case !known:
			// After a crash: they lie before the first kept one.
			unsure[id] = r.rings[id].fk.Load()
		case !r.below(&unit{last: l.seq, span: span{l.received, l.received, l.ts, l.ts}}):
			n, exact = n+min(room[id], l.thingSeq), false
		}
	}
	counted := make(map[uint32]bool)
	for id := range unsure {
		counted[id] = true
	}
	if len(unsure) > 0 {
		err = errors.Join(err, r.locate(unsure, nil, func(e *entry) {
			if r.below(&unit{last: e.seq - 1, span: span{e.received, e.received, e.ts, e.ts}}) {
				delete(counted, e.id)
			}
		}))
	}
	for id := range counted {
		n, exact = n+room[id], false
	}
	return n, exact, err
}

// stillThere calls yield with each evicted update of some Things that the
// question is about and whose bytes are in the file.
func (r *reading) stillThere(sel *selection, yield func(*entry)) error {
	dead := func(es []entry) {
		r.entries = es
		for i := range es {
			e := &es[i]
			if sel.has(e.id) && e.seq > r.at && e.seq <= r.upTo && e.thingSeq < r.rings[e.id].fk.Load() &&
				e.thingSeq >= r.pos.bound(e.id) && r.inTime(e) {
				yield(e)
			}
		}
	}
	skip := func(u *unit) bool { return u.last <= r.at || u.first > r.upTo || !r.overlaps(u) }
	var wanted []bool
	blocks := r.tx.Bucket(bucketBlocks).Cursor()
	for _, seg := range r.segs {
		if seg.count == 0 || skip(&seg.unit) {
			continue
		}
		var err error
		if wanted, err = r.deadBlocks(seg, sel, wanted); err != nil {
			r.damage(err)
		}
		if len(wanted) == 0 {
			continue
		}
		table, err := r.loadBlocks(r.tx, seg, nil)
		if err != nil {
			r.damage(err)
			continue
		}
		for no := range min(len(table), len(wanted)) {
			if !wanted[no] || skip(&table[no]) {
				continue
			}
			if err := r.db.isClosing(r.ctx); err != nil {
				return err
			}
			es, err := r.readBlock(blocks, seg, no, table[no], r.entries)
			if err != nil {
				r.damage(err)
				continue
			}
			dead(es)
		}
	}
	c := r.tx.Bucket(bucketLog).Cursor()
	for _, rec := range r.records {
		if skip(&rec.unit) || !r.mentionsAny(rec, sel) {
			continue
		}
		if err := r.stopped(); err != nil {
			return err
		}
		es, err := r.readLog(c, rec, r.entries)
		if err != nil {
			r.damage(err)
			continue
		}
		dead(es)
	}
	return nil
}

// lostOf tells what is known of a ring's updates whose bytes are gone; known
// is false where a crash left that open.
func (db *DB) lostOf(r *ring) (l lost, known bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return r.lost, r.unsure == 0
}

// below tells whether all of a unit lies below the question's lower bounds.
func (r *reading) below(u *unit) bool {
	if u.last <= r.at {
		return true
	}
	if r.q.Since == nil {
		return false
	}
	newest := u.span.maxReceived
	if r.q.By == store.ByTS {
		newest = thing.MicrosOfSeconds(u.span.maxTS)
	}
	return newest < *r.q.Since
}
