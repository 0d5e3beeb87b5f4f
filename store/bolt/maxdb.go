package bolt

import (
	"context"
	"log/slog"
	"time"

	"tbhist/metrics"
)

// level is how much of the file may be in use before something is done
// about it: a share of MaxDB, and in a small file no more than leaves room for
// so many segments, since what makes room needs some itself.
type level struct {
	share float64
	room  int64 // segments
}

// Above evictAbove what is oldest is evicted until evictTo is in use; above
// reclaimAbove segments are rewritten for little; above fullAbove the input
// waits.
var (
	evictTo      = level{0.70, 7}
	reclaimAbove = level{0.75, 6}
	evictAbove   = level{0.80, 5}
	fullAbove    = level{0.85, 4}
)

// perUpdate is what an update costs beyond its bytes when the share of a
// Thing is worked out.
const perUpdate = 24

// bytes gives the level in a file.
func (l level) bytes(db *DB) int64 {
	return min(int64(l.share*float64(db.o.MaxDB)), db.o.MaxDB-l.room*db.segmentBytes())
}

// usedBytes is the size of the pages in use.
func (db *DB) usedBytes() int64 {
	s := db.fileStats()
	return s.size - int64(s.free)*pageSize
}

// holdSize evicts what is oldest while the file is nearly as large as it
// may be: first among Things above an equal share, and never a Thing's
// newest. What it evicted is on disk when it returns, so that its space may
// be reclaimed.
func (db *DB) holdSize() error {
	used := db.usedBytes()
	if used <= evictAbove.bytes(db) {
		return nil
	}
	// What is dead already counts first: it only has to be reclaimed. Count it
	// now: by an older count live updates would go in place of dead ones.
	if err := db.recountAll(); err != nil {
		return err
	}
	var taken, live int64
	for _, seg := range db.segments() {
		taken += seg.bytes
		live += seg.liveBytes.Load()
	}
	excess := used - (taken - live) - evictTo.bytes(db)
	if excess <= 0 {
		return nil
	}
	upTo, err := db.chooseOldest(excess)
	if err != nil || len(upTo) == 0 {
		return err
	}
	before := db.evicted.Load()
	db.evicting.Lock()
	for r, n := range upTo {
		if r.limit.Bytes > 0 {
			r.agedOut = max(r.agedOut, n-1)
		}
		r.forced = true
		db.settle(r, n, metrics.EvictMaxDB)
	}
	db.maint.agedDirty = true
	db.evicting.Unlock()
	db.saySized(db.evicted.Load() - before)
	return db.saveAged()
}

// saySized tells of updates evicted for the size of the file: under load that is
// several times a second, of which one a minute is said aloud.
func (db *DB) saySized(evicted uint64) {
	if evicted == 0 {
		return
	}
	level, m := slog.LevelDebug, &db.maint
	if now := time.Now(); m.sizedSaid.IsZero() || now.Sub(m.sizedSaid) >= complainEvery {
		level, m.sizedSaid = slog.LevelWarn, now
	}
	db.log.Log(context.Background(), level, "the history file is nearly as large as it may be: the oldest updates were evicted",
		"evicted", evicted, "max_db", db.o.MaxDB)
}

// chooseOldest finds about excess stored bytes of the oldest updates of
// Things above an equal share: per ring the thing_seq below which goes.
func (db *DB) chooseOldest(excess int64) (map[*ring]uint64, error) {
	upTo := make(map[*ring]uint64)
	err := db.view(func(s *snapshot) error {
		weight := make([]int64, len(s.rings)) // of what is live, by id
		var total, stored, things int64
		var e chunkEntry
		for _, seg := range s.segs {
			stored += seg.liveBytes.Load()
			if err := s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool {
				if r := s.ring(e.id); r != nil {
					weight[e.id] += liveWeight(e, r.fk.Load())
				}
				return true
			}); err != nil {
				s.damage(err)
			}
		}
		for _, w := range weight {
			if w > 0 {
				things++
				total += w
			}
		}
		if things == 0 || stored == 0 {
			return nil
		}
		// The share is of what will be left: by one of what there is now, Things
		// that are alike could give next to nothing.
		todo := min(int64(float64(excess)*float64(total)/float64(stored)), total)
		share := (total - todo) / things
		for _, seg := range s.segs {
			if todo <= 0 {
				return nil
			}
			if err := s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool {
				r := s.ring(e.id)
				if r == nil {
					return true
				}
				fk := r.fk.Load()
				for i, size := range e.sizes {
					n := e.first + uint64(i)
					// With all shares equal the oldest go all the same.
					if n < fk || weight[e.id] < share || todo <= 0 {
						continue
					}
					w := int64(size) + perUpdate
					weight[e.id] -= w
					todo -= w
					upTo[r] = n + 1
				}
				return true
			}); err != nil {
				s.damage(err)
			}
		}
		return nil
	})
	return upTo, err
}

func liveWeight(e *chunkEntry, fk uint64) (w int64) {
	for i, size := range e.sizes {
		if e.first+uint64(i) >= fk {
			w += int64(size) + perUpdate
		}
	}
	return w
}
