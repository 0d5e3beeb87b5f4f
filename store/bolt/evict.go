package bolt

import (
	"slices"

	"tbhist/metrics"
)

// maxSizes bounds the sizes remembered of one ring with a byte limit;
// further ones are read from the index when those are used up.
const maxSizes = 4096

// noteSize takes in the newest update of a ring with a byte limit: its
// limits are held by settle. Under evicting and mu.
func (db *DB) noteSize(r *ring, size uint32) {
	keptBefore := r.head - r.fk.Load() // without the new one
	if uint64(len(r.sizes)) == keptBefore && len(r.sizes) < maxSizes {
		r.sizes = append(r.sizes, size)
	}
	r.bytes += int64(size)
	if !r.unsettled {
		r.unsettled = true
		db.stage.byBytes = append(db.stage.byBytes, r)
	}
}

// settle moves a ring's first kept update up to where count and byte limits
// hold and everything below upTo is evicted (cause says why that). Under
// evicting. The newest update always stays.
func (db *DB) settle(r *ring, upTo uint64, cause metrics.Evict) {
	if r.limit.Bytes <= 0 {
		db.moveKept(r, upTo, cause)
		if n := r.limit.Count; n > 0 && r.head > uint64(n) {
			db.moveKept(r, r.head-uint64(n)+1, metrics.EvictCount)
		}
		return
	}
	if r.agedOut+1 > upTo {
		upTo, cause = r.agedOut+1, metrics.EvictAge
	}
	for fk := r.fk.Load(); fk < r.head; fk = r.fk.Load() {
		why := metrics.EvictBytes
		switch n := r.limit.Count; {
		case fk < upTo:
			why = cause
		case n > 0 && r.head-fk+1 > uint64(n):
			why = metrics.EvictCount
		case r.bytes <= r.limit.Bytes:
			return
		}
		if len(r.sizes) == 0 {
			switch from := db.refillSizes(r); {
			case from == 0:
				// The index cannot tell: the sum is right, so go by the mean.
				r.bytes -= r.bytes / int64(r.head-fk+1)
				db.moveKept(r, fk+1, why)
				continue
			case from > fk:
				// What comes before was evicted, and its bytes given back, after
				// the checkpoint that a start found: its sum is none of this.
				db.moveKept(r, from, why)
				db.sumBytes(r)
				continue
			}
		}
		r.bytes -= int64(r.sizes[0])
		r.sizes = r.sizes[1:]
		db.moveKept(r, fk+1, why)
	}
}

// moveKept evicts what is below to. Under evicting.
func (db *DB) moveKept(r *ring, to uint64, cause metrics.Evict) {
	to = min(to, r.head)
	if fk := r.fk.Load(); to > fk {
		r.fk.Store(to)
		db.countEvicted(cause, to-fk)
	}
}

// refillSizes reads the sizes of the oldest updates of a ring that there are
// from its first kept one on, from the index or from what is remembered of
// the log. It gives the thing_seq of the first, 0 if there is none.
func (db *DB) refillSizes(r *ring) (from uint64) {
	sel := newSelection([]uint32{r.id})
	fk := r.fk.Load()
	r.sizes = nil
	err := db.view(func(s *snapshot) error {
		var e chunkEntry
		for _, seg := range s.segs {
			if seg.count == 0 || seg.last < r.sizesFrom {
				continue
			}
			err := s.eachSized(seg, sel, &e, func(e *chunkEntry) bool {
				if fk <= e.last() {
					from = max(fk, e.first)
					sizes := e.sizes[from-e.first:]
					r.sizes = slices.Clone(sizes[:min(len(sizes), maxSizes)])
					r.sizesFrom = seg.first
				}
				return true
			})
			if err != nil {
				return err
			}
			if len(r.sizes) > 0 {
				return nil
			}
		}
		logged := s.loggedSizes(r)
		if first := r.head - uint64(len(logged)) + 1; len(logged) > 0 {
			from = max(fk, first)
			sizes := logged[from-first:]
			r.sizes = sizes[:min(len(sizes), maxSizes)]
		}
		return nil
	})
	if err != nil {
		db.damage(err)
	}
	if len(r.sizes) == 0 {
		return 0
	}
	return from
}

// loggedSizes gives the sizes of a ring's updates in the log: the newest, up
// to its head.
func (s *snapshot) loggedSizes(r *ring) (sizes []uint32) {
	for _, rec := range s.records {
		for i, id := range rec.ids {
			if id == r.id {
				sizes = append(sizes, rec.sizes[i])
			}
		}
	}
	return sizes
}
