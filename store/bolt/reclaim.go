package bolt

import (
	"errors"
	"slices"

	"go.etcd.io/bbolt"

	"tbhist/store"
)

const (
	// spare is how many bytes segments may take beyond a quarter more than
	// what is live.
	spare = 16 << 20
	// recounts is how many segments are counted anew in one round though
	// nothing says that they changed.
	recounts = 8
	// dropsAtOnce bounds the transaction that drops dead segments.
	dropsAtOnce = 8
)

// reclaim gives back the space of what is evicted: it drops segments of
// which nothing is kept, rewrites those of which least is while too much
// space is taken, and joins small neighbours. One step a call; it tells
// whether there may be more to do. limit is how many bytes all may take.
func (db *DB) reclaim(limit int64) (bool, error) {
	if err := db.recount(); err != nil {
		return false, err
	}
	segs := db.segments()
	if from, to := firstDead(segs); to > from {
		return true, db.replace(segs[from:to], nil)
	}
	if i := db.worst(segs, limit); i >= 0 {
		from, to := i, i+1
		for to < len(segs) && to-from < 4 && db.fits(segs[from:to+1]) {
			to++
		}
		return true, db.rewrite(segs[from:to])
	}
	if from, to := db.smallNeighbours(segs); to > from {
		return true, db.rewrite(segs[from:to])
	}
	return false, nil
}

func (db *DB) segments() []*segment {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.segs
}

// recount brings what is known of liveness up to date: of segments whose
// witness was evicted, and of those that were counted longest ago.
func (db *DB) recount() error {
	segs := db.segments()
	evicted := db.evicted.Load()
	var due []*segment
	var stale []*segment
	db.mu.RLock()
	for _, seg := range segs {
		switch {
		case seg.count == 0 || seg.live.Load() == 0 || seg.countedAt == evicted:
		case seg.witness.thingSeq < db.keptFrom(seg.witness.id):
			due = append(due, seg)
		default:
			stale = append(stale, seg)
		}
	}
	db.mu.RUnlock()
	slices.SortFunc(stale, func(a, b *segment) int {
		if a.countedAt < b.countedAt {
			return -1
		}
		return 1
	})
	due = append(due, stale[:min(len(stale), recounts)]...)
	return db.count(due, evicted)
}

// recountAll brings what is known of liveness up to date wherever something
// may have changed.
func (db *DB) recountAll() error {
	evicted := db.evicted.Load()
	var due []*segment
	for _, seg := range db.segments() {
		if seg.count > 0 && seg.live.Load() > 0 && seg.countedAt != evicted {
			due = append(due, seg)
		}
	}
	return db.count(due, evicted)
}

func (db *DB) count(segs []*segment, evicted uint64) error {
	for _, seg := range segs {
		err := db.view(func(s *snapshot) error { return s.countLive(seg) })
		var damage *store.CorruptionError
		switch {
		case errors.As(err, &damage):
			db.damage(err)
		case err != nil:
			return err // the file is away, or closed
		}
		seg.countedAt = evicted
	}
	return nil
}

// keptFrom is the first kept thing_seq of a Thing: above everything for one
// that is gone. Under mu.
func (db *DB) keptFrom(id uint32) uint64 {
	if int(id) >= len(db.rings) || db.rings[id] == nil {
		return ^uint64(0)
	}
	return db.rings[id].fk.Load()
}

// countLive counts what is kept of a segment, from its index alone, and
// chooses the witness that will live longest as far as can be told.
func (s *snapshot) countLive(seg *segment) error {
	var live, slack uint64
	var e chunkEntry
	seg.witness.thingSeq = 0
	err := s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool {
		r := s.ring(e.id)
		if r == nil {
			return true
		}
		fk := r.fk.Load()
		if fk > e.last() {
			return true
		}
		live += e.last() - max(fk, e.first) + 1
		if room := e.last() - fk + 1; e.last() >= fk && room > slack {
			slack = room
			seg.witness.id, seg.witness.thingSeq = e.id, e.last()
		}
		return true
	})
	if err != nil {
		return err
	}
	live = min(live, uint64(seg.count)) // the index makes up for damage (builder.finish)
	seg.live.Store(int64(live))
	seg.liveBytes.Store(int64(float64(seg.bytes) * float64(live) / float64(seg.count)))
	return nil
}

// firstDead finds a run of segments in which nothing is kept, joined with
// the empty ones around it: one that is not just a single empty one.
func firstDead(segs []*segment) (from, to int) {
	for i := 0; i < len(segs); i++ {
		if segs[i].live.Load() > 0 {
			continue
		}
		j, full := i, 0
		for j < len(segs) && segs[j].live.Load() == 0 && full < dropsAtOnce {
			if segs[j].count > 0 {
				full++
			}
			j++
		}
		if full > 0 || j-i > 1 {
			return i, j
		}
		i = j
	}
	return 0, 0
}

// worst gives the segment with the smallest live share, if so much space is
// taken that one should be rewritten; −1 else.
func (db *DB) worst(segs []*segment, limit int64) int {
	var taken, live int64
	at, least := -1, 0.97 // above it rewriting gives nothing back
	for i, seg := range segs {
		if seg.count == 0 {
			continue
		}
		taken += seg.bytes
		live += seg.liveBytes.Load()
		if share := float64(seg.live.Load()) / float64(seg.count); share < least {
			at, least = i, share
		}
	}
	if taken > live+live/4+spare || (limit > 0 && taken > limit) {
		return at
	}
	return -1
}

// fits tells whether what is live of the segments makes one.
func (db *DB) fits(segs []*segment) bool {
	var live, bytes int64
	for _, seg := range segs {
		live += seg.live.Load()
		bytes += seg.liveBytes.Load()
	}
	return live <= segmentTarget && bytes <= db.segmentBytes()/2
}

// smallNeighbours finds two or more neighbours that are so small together
// that joining them is cheap: clean stops leave such.
func (db *DB) smallNeighbours(segs []*segment) (from, to int) {
	small := func(s *segment) bool { return s.count < segmentTarget/4 && s.bytes < segmentRaw/16 }
	for i := 0; i+1 < len(segs); i++ {
		j := i
		for j < len(segs) && small(segs[j]) && j-i < 16 && db.fits(segs[i:j+1]) {
			j++
		}
		// Few updates are not joined again and again at every stop.
		if j-i >= 4 {
			return i, j
		}
	}
	return 0, 0
}

// rewrite makes one segment of what is kept of some neighbours.
func (db *DB) rewrite(segs []*segment) error {
	var out *built
	err := db.view(func(s *snapshot) error {
		b := newBuilder(db.codecs, s.docs, segs[0].first, segs[len(segs)-1].last)
		kept := s.firstKept()
		for _, seg := range segs {
			err := s.blocksOf(seg, func(es []entry) {
				for i := range es {
					if kept.has(&es[i]) {
						b.add(&es[i])
					}
				}
			})
			if err != nil {
				return err
			}
		}
		out = b.finish()
		return nil
	})
	if err != nil {
		return err
	}
	db.metrics.RewrittenUpdates.Add(float64(out.count))
	return db.replace(segs, out)
}

func (s *snapshot) ring(id uint32) *ring {
	if uint64(id) >= uint64(len(s.rings)) {
		return nil
	}
	return s.rings[id]
}

// replace puts out in the place of some neighbours; nil stands for an empty
// segment.
func (db *DB) replace(segs []*segment, out *built) error {
	first, last := segs[0].first, segs[len(segs)-1].last
	if out == nil {
		out = newBuilder(db.codecs, nil, first, last).finish()
	}
	gone, err := db.lossesOf(segs)
	if err != nil {
		return err
	}
	err = db.restructure(func(tx *bbolt.Tx) error {
		if err := deleteSegments(tx, first, last); err != nil {
			return err
		}
		if err := db.putAged(tx); err != nil {
			return err
		}
		return out.put(tx)
	}, func() {
		at := slices.Index(db.segs, segs[0])
		next := make([]*segment, 0, len(db.segs))
		next = append(next, db.segs[:at]...)
		next = append(next, out.segment())
		db.segs = append(next, db.segs[at+len(segs):]...)
		db.noteLost(gone)
	})
	if err == nil {
		db.maint.agedDirty = false
	}
	return err
}

// lossesOf gives the newest update of each Thing that goes with the dead
// part of some segments. Its seq and times tell later whether a question
// could have been about it, so they are read, not guessed from the index.
func (db *DB) lossesOf(segs []*segment) (losses, error) {
	gone := make(losses)
	err := db.view(func(s *snapshot) error {
		for _, seg := range segs {
			err := s.blocksOf(seg, func(es []entry) {
				for i := range es {
					e := &es[i]
					if r := s.ring(e.id); r != nil && e.thingSeq < r.fk.Load() {
						gone.add(e)
					}
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return gone, err
}

// blocksOf reads a segment block by block; damaged ones are passed over.
func (s *snapshot) blocksOf(seg *segment, yield func([]entry)) error {
	if seg.count == 0 {
		return nil
	}
	table, err := s.loadBlocks(s.tx, seg, nil)
	if err != nil {
		s.damage(err)
		return nil
	}
	c := s.tx.Bucket(bucketBlocks).Cursor()
	for no := range table {
		es, err := s.readBlock(c, seg, no, table[no], s.entries)
		if err != nil {
			s.damage(err)
			continue
		}
		s.entries = es
		yield(es)
	}
	return nil
}
