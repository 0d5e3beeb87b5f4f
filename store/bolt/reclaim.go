package bolt

import (
	"errors"
	"math"
	"slices"

	"go.etcd.io/bbolt"

	"tbhist/internal/failpoint"
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
	if err := db.recount(limit); err != nil {
		return false, err
	}
	db.releasePin()
	pinned := db.pin.Load()
	segs := db.segments()
	if from, to := firstDead(segs, pinned); to > from {
		return stepped(db.drop(segs[from:to]))
	}
	if i := db.lacking(segs, pinned); i >= 0 {
		return true, db.rewrite(segs[i : i+1])
	}
	if i := db.worst(segs, limit, pinned); i >= 0 {
		from, to := i, i+1
		for to < len(segs) && to-from < 4 && !pinned.holds(segs[to]) && db.fits(segs[from:to+1]) {
			to++
		}
		return stepped(db.rewrite(segs[from:to]))
	}
	if from, to := db.smallNeighbours(segs, pinned); to > from {
		return stepped(db.rewrite(segs[from:to]))
	}
	return false, nil
}

// stepped tells what a step came to. One that a backup is in the way of is for
// another round.
func stepped(err error) (bool, error) {
	if errors.Is(err, errPinned) {
		return false, nil
	}
	return true, err
}

func (db *DB) segments() []*segment {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.segs
}

// firstDead finds a run of segments in which nothing is kept, joined with
// the empty ones around it: one that is not just a single empty one.
func firstDead(segs []*segment, pinned *pin) (from, to int) {
	for i := 0; i < len(segs); i++ {
		if segs[i].live.Load() > 0 || pinned.holds(segs[i]) {
			continue
		}
		j, full := i, 0
		for j < len(segs) && segs[j].live.Load() == 0 && !pinned.holds(segs[j]) && full < dropsAtOnce {
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
func (db *DB) worst(segs []*segment, limit int64, pinned *pin) int {
	var taken, live int64
	at, least := -1, 0.97 // above it rewriting gives nothing back
	most := db.mostAtOnce(math.MaxInt64)
	for i, seg := range segs {
		if seg.count == 0 {
			continue
		}
		live += seg.liveBytes.Load()
		if pinned.holds(seg) {
			taken += seg.liveBytes.Load() // the rest cannot go now, and is no reason to rewrite others
			continue
		}
		taken += seg.bytes
		if share := float64(seg.liveBytes.Load()) / float64(max(seg.bytes, 1)); share < least && seg.liveBytes.Load() <= most {
			at, least = i, share
		}
	}
	if tooMuch(taken, live, limit) {
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
	return live <= segmentTarget && bytes <= db.mostAtOnce(db.segmentBytes()/2)
}

// smallNeighbours finds two or more neighbours that are so small together
// that joining them is cheap: clean stops leave such.
func (db *DB) smallNeighbours(segs []*segment, pinned *pin) (from, to int) {
	small := func(s *segment) bool {
		return s.count < segmentTarget/4 && s.bytes < segmentRaw/16 && !pinned.holds(s)
	}
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
	b := &db.maint.rewriting
	var gone losses
	begun := false
	evicted := db.evicted.Load()
	for _, seg := range segs {
		err := db.view(func(s *snapshot) error {
			if !begun {
				begun = true
				b.begin(db.codecs, s.docs, s.firstKept(), evicted, segs[0].first, segs[len(segs)-1].last)
			}
			for _, at := range s.blocksOf(seg, nil) {
				if es := s.blockAt(at); es != nil {
					b.addKept(s.reader, es, &gone)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		db.keepUp()
	}
	out := b.finish()
	db.metrics.RewrittenUpdates.Add(float64(out.count))
	failpoint.Hit("rewrite.commit")
	err := db.replace(segs, out, &gone)
	failpoint.Hit("rewrite.after")
	return err
}

// drop leaves nothing of some neighbours, in which nothing is kept.
func (db *DB) drop(segs []*segment) error {
	gone, err := db.lossesOf(segs)
	if err != nil {
		return err
	}
	b := &db.maint.rewriting
	b.begin(db.codecs, nil, nil, 0, segs[0].first, segs[len(segs)-1].last)
	failpoint.Hit("drop.commit")
	err = db.replace(segs, b.finish(), gone)
	failpoint.Hit("drop.after")
	return err
}

func (s *snapshot) ring(id uint32) *ring {
	if uint64(id) >= uint64(len(s.rings)) {
		return nil
	}
	return s.rings[id]
}

// replace puts out in the place of some neighbours; gone is what it has not of
// theirs.
func (db *DB) replace(segs []*segment, out *built, gone *losses) error {
	first, last := segs[0].first, segs[len(segs)-1].last
	if err := db.sound(first, last); err != nil {
		return err
	}
	err := db.restructure(func(tx *bbolt.Tx) error {
		if err := db.mayGo(first, last, gone); err != nil {
			return err
		}
		if err := deleteSegments(tx, first, last); err != nil {
			return err
		}
		if err := errors.Join(db.putAged(tx), db.putLost(tx, gone)); err != nil {
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

// blockAt is a block by its place.
type blockAt struct {
	unit
	of *segment
	no int
}

// blocksOf appends a segment's blocks, none if its head is damaged.
func (s *snapshot) blocksOf(seg *segment, to []blockAt) []blockAt {
	if seg.count == 0 {
		return to
	}
	table, err := s.loadBlocks(s.tx, seg, nil)
	if err != nil {
		s.damage(err)
		return to
	}
	for no, u := range table {
		to = append(to, blockAt{unit: u, of: seg, no: no})
	}
	return to
}

// blockAt reads a block; nil for a damaged one.
func (s *snapshot) blockAt(b blockAt) []entry {
	es, err := s.readBlock(s.tx.Bucket(bucketBlocks).Cursor(), b.of, b.no, b.unit, s.entries)
	if err != nil {
		s.damage(err)
		return nil
	}
	s.entries = es
	return es
}
