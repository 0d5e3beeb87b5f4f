package bolt

import (
	"cmp"
	"errors"
	"slices"

	"tbhist/store"
)

// recount brings what is known of liveness up to date: of segments whose
// witnesses were evicted, which may be dead, and, if what died since the others
// were counted may be reason to rewrite one, of those that were counted
// longest ago. Once something was forgotten, all are counted: what died may be
// much larger than the rest. limit is that of reclaim.
func (db *DB) recount(limit int64) error {
	if db.maint.recountAll.Swap(false) {
		err := db.recountAll()
		if err != nil {
			db.maint.recountAll.Store(true)
		}
		return err
	}
	segs := db.segments()
	evicted := db.evicted.Load()
	var due []*segment
	var stale []*segment
	db.mu.RLock()
	for _, seg := range segs {
		switch {
		case seg.count == 0 || seg.live.Load() == 0 || seg.countedAt == evicted:
		case !db.anyKept(&seg.witnesses):
			due = append(due, seg)
		default:
			stale = append(stale, seg)
		}
	}
	db.mu.RUnlock()
	if err := db.count(due, evicted); err != nil {
		return err
	}
	if !db.mayTakeTooMuch(segs, limit) {
		return nil
	}
	slices.SortFunc(stale, func(a, b *segment) int { return cmp.Compare(a.countedAt, b.countedAt) })
	return db.count(stale[:min(len(stale), recounts)], evicted)
}

// mayTakeTooMuch tells whether segments may take so much space that worst
// would name one if all were counted. How many updates are kept is known
// without counting; of what died unseen it takes the largest to be gone.
func (db *DB) mayTakeTooMuch(segs []*segment, limit int64) bool {
	var taken, liveBytes, live int64
	var largest float64
	for _, seg := range segs {
		if seg.count == 0 {
			continue
		}
		taken += seg.bytes
		live += seg.live.Load()
		liveBytes += seg.liveBytes.Load()
		largest = max(largest, float64(seg.bytes)/float64(seg.count))
	}
	db.mu.RLock()
	logged := db.logged.count
	db.mu.RUnlock()
	if unseen := live - (int64(db.kept.Load()) - int64(logged)); unseen > 0 {
		liveBytes -= int64(float64(unseen) * largest)
	}
	return tooMuch(taken, liveBytes, limit)
}

// tooMuch tells whether segments take more than the live part of them allows.
func tooMuch(taken, live, limit int64) bool {
	return taken > live+live/4+spare || (limit > 0 && taken > limit)
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
	var kept firstKept
	for _, seg := range segs {
		err := db.view(func(s *snapshot) error {
			if kept == nil {
				kept = s.firstKept()
			}
			return s.countLive(seg, kept)
		})
		var damage *store.CorruptionError
		switch {
		case errors.As(err, &damage):
			db.damage(err)
		case err != nil:
			return err // the file is away, or closed
		}
		seg.countedAt = evicted
		db.keepUp()
	}
	return nil
}

// anyKept tells whether any of some updates is kept. Under mu.
func (db *DB) anyKept(w *witnesses) bool {
	for i := range w.of {
		if x := &w.of[i]; x.slack > 0 && x.thingSeq >= db.keptFrom(x.id) {
			return true
		}
	}
	return false
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
// chooses its witnesses. kept may be older than the snapshot.
func (s *snapshot) countLive(seg *segment, kept firstKept) error {
	var live, all uint64
	var weight, liveOf int64 // large updates and small ones may not live alike
	var e chunkEntry
	seg.witnesses = witnesses{}
	err := s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool {
		all += e.count()
		weight += liveWeight(e, 0)
		if uint64(e.id) >= uint64(len(kept)) || kept[e.id] > e.last() {
			return true
		}
		fk := kept[e.id]
		live += e.last() - max(fk, e.first) + 1
		liveOf += liveWeight(e, fk)
		seg.witnesses.offer(e.id, e.last(), fk)
		return true
	})
	if err != nil {
		return err
	}
	if all < uint64(seg.count) {
		// What is left of an index says nothing of what the segment has besides:
		// dropping it as dead would take that along.
		return damaged(bucketIndex, seqKey(seg.first), errIndexLacks)
	}
	live = min(live, uint64(seg.count)) // the index makes up for damage (builder.finish)
	seg.live.Store(int64(live))
	seg.liveBytes.Store(int64(float64(seg.bytes) * float64(liveOf) / float64(max(weight, 1))))
	return nil
}
