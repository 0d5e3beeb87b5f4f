package bolt

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"tbhist/metrics"
	"tbhist/store"
)

// maintenance is the background work's own, but for recountAll. Under
// DB.maintaining.
type maintenance struct {
	checkpointAt uint64 // seq of the newest checkpoint
	clock        clock
	// complained is when trouble was logged last.
	complained time.Time
	suggested  bool // `db compact`
	// sizedSaid is when evicting for the size of the file was said aloud last.
	sizedSaid time.Time
	// agedDirty tells that age evicted something since putAged ran;
	// agedSaved is when saveAged did.
	agedDirty bool
	agedSaved time.Time
	// agedAt is when ageOut looked last.
	agedAt time.Time
	// lostDirty tells that bytes went since the last checkpoint.
	lostDirty bool
	// sealing makes segments of the log, also while rewriting makes one of
	// others.
	sealing, rewriting builder
	// recountAll tells that Things were forgotten since all segments were counted.
	recountAll atomic.Bool
	// owed is how many steps of reclaiming are due for segments made.
	owed int
}

const (
	maintainEvery = time.Second
	complainEvery = time.Minute
	// manyFreePages is where the freelist, which every commit writes, costs
	// noticeably.
	manyFreePages = 16384
)

// failure is an error that background work keeps meeting.
type failure struct {
	since time.Time
	err   error
}

// maintain does the background work until Close.
func (db *DB) maintain() {
	defer close(db.finished)
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	wake := db.wake
	for {
		select {
		case <-db.closing:
			return
		case <-wake:
		case <-tick.C:
		}
		db.maintaining.Lock()
		err := db.round()
		if err != nil && !errors.Is(err, store.ErrClosed) {
			if now := time.Now(); now.Sub(db.maint.complained) >= complainEvery {
				db.maint.complained = now
				db.log.Error("background work on the history failed and is tried again", "err", err)
			}
		}
		if err == nil {
			db.failing.Store(nil)
		} else if db.failing.Load() == nil {
			db.failing.Store(&failure{since: time.Now(), err: err})
		}
		db.maintaining.Unlock()
		if db.degraded.Load() != nil {
			db.probe()
		}
		db.stuck.Store(err == nil && db.nearlyFull())
		db.giveRoom()
		// After a failure only the next tick tries again.
		if wake = db.wake; err != nil {
			wake = nil
		}
	}
}

// mostOwed is how many segments may be made while a step of reclaiming is
// still under way, before the input is held back for it.
const mostOwed = 3

// round does what is due, the log first: a full one holds the input back. A
// file too full for a segment is no reason not to make room in it.
func (db *DB) round() error {
	if err := db.mend(); err != nil {
		return err
	}
	db.maint.owed = 0
	for db.segmentDue() || db.maint.owed > 0 {
		if db.segmentDue() {
			if more, err := db.seal(); err != nil {
				db.maint.owed = mostOwed // nothing to keep up with
				return errors.Join(err, db.holdSize(), db.reclaimAll())
			} else if !more {
				break
			}
		}
		// A step of reclaiming for each new segment, or under steady load the
		// file would grow by what is never given back.
		db.maint.owed--
		if more, err := db.reclaim(db.reclaimLimit()); err != nil {
			return err
		} else if !more {
			db.maint.owed = 0
		}
	}
	if !db.o.lazyAge && db.ageDue() {
		if err := db.ageOut(); err != nil {
			return err
		}
	}
	if db.checkpointDue() {
		if err := db.checkpoint(); err != nil { // what has no room for it may make some
			return errors.Join(err, db.holdSize(), db.reclaimAll())
		}
	}
	if err := db.holdSize(); err != nil {
		return err
	}
	// One step at a time: a segment may be due between two.
	for more := true; more && !db.segmentDue() && !db.isClosingNow(); {
		var err error
		if more, err = db.reclaim(db.reclaimLimit()); err != nil {
			return err
		}
		db.giveRoom()
	}
	if db.checkpointStale() {
		if err := db.checkpoint(); err != nil {
			return err
		}
	}
	db.suggestCompact()
	return nil
}

// checkpointStale tells that bytes went since a checkpoint at the head. A
// start that finds nothing behind its checkpoint takes what that says was lost
// for exact, so it must say so soon, though no update comes.
func (db *DB) checkpointStale() bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.maint.lostDirty && db.maint.checkpointAt == db.head
}

// mend opens the file anew where that failed before: commits do it too, but
// none comes while the log is full.
func (db *DB) mend() error {
	db.writing.Lock()
	defer db.writing.Unlock()
	if db.file != nil && !db.suspect.Load() {
		return nil
	}
	return db.reopen(false)
}

// keepUp makes a segment if one is due: between the parts of what takes long,
// so that the input is not held back all the while. The next round meets what
// fails here.
func (db *DB) keepUp() {
	if db.maint.owed < mostOwed && db.segmentDue() {
		if _, err := db.seal(); err != nil {
			db.maint.owed = mostOwed
		}
	}
}

// reclaimLimit is how much segments may take in any case: nothing that can be
// given back, in a file that cannot grow and has little room.
func (db *DB) reclaimLimit() int64 {
	if db.isCramped() {
		return 1
	}
	return reclaimAbove.bytes(db)
}

func (db *DB) reclaimAll() error {
	for {
		if more, err := db.reclaim(db.reclaimLimit()); err != nil || !more {
			return err
		}
	}
}

// ageDue spaces the looks at what is too old: a thousandth of the shortest
// age, a second at least and a minute at most.
func (db *DB) ageDue() bool {
	shortest := time.Duration(math.MaxInt64)
	for _, age := range db.ages() {
		if age > 0 {
			shortest = min(shortest, age)
		}
	}
	now := time.Now()
	if now.Sub(db.maint.agedAt) < min(max(shortest/1000, maintainEvery*9/10), time.Minute) && !db.maint.agedAt.IsZero() {
		return false
	}
	db.maint.agedAt = now
	return true
}

func (db *DB) isClosingNow() bool {
	select {
	case <-db.closing:
		return true
	default:
		return false
	}
}

func (db *DB) segmentDue() bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.logDue()
}

func (db *DB) suggestCompact() {
	free := db.fileStats().free
	if free < manyFreePages {
		db.maint.suggested = false
	} else if !db.maint.suggested {
		db.maint.suggested = true
		db.log.Warn("the history file has many free pages, which every commit writes down",
			"free_pages", free)
	}
}

// Maintain does all background work that there is, at once: the log
// becomes segments, limits are held, space is reclaimed, and a checkpoint
// is written. For tests and upkeep; a history does this by itself in time.
func (db *DB) Maintain() error {
	db.maintaining.Lock()
	defer db.maintaining.Unlock()
	return db.settleAll()
}

func (db *DB) settleAll() error {
	for {
		if more, err := db.seal(); err != nil {
			return err
		} else if !more {
			break
		}
	}
	if err := db.ageOut(); err != nil {
		return err
	}
	if err := db.checkpoint(); err != nil {
		return err
	}
	if err := db.holdSize(); err != nil {
		return err
	}
	return db.reclaimAll()
}

// settleForClose makes the next start quick.
func (db *DB) settleForClose() error {
	for {
		if more, err := db.seal(); err != nil {
			return err
		} else if !more {
			break
		}
	}
	if db.maint.checkpointAt == db.head && !db.maint.agedDirty && !db.maint.lostDirty {
		return nil
	}
	return db.checkpoint()
}

// fileStats is what bbolt says of the file.
type fileStats struct {
	size int64
	free int
}

func (db *DB) fileStats() fileStats {
	db.layout.RLock()
	defer db.layout.RUnlock()
	if db.file == nil {
		return fileStats{}
	}
	st := db.file.bolt.Stats()
	s := fileStats{free: st.FreePageN + st.PendingPageN}
	if info, err := db.file.os.Stat(); err == nil {
		s.size = info.Size()
	}
	return s
}

// Stats is a moment's view for metrics.
func (db *DB) Stats() metrics.StoreStats {
	f := db.fileStats()
	s := metrics.StoreStats{FileBytes: f.size, FreePages: int64(f.free), Updates: db.kept.Load()}
	db.mu.RLock()
	defer db.mu.RUnlock()
	s.LogBytes = db.logged.bytes
	s.LiveBytes = db.logged.bytes
	var live int64
	var liveBytes int64
	for _, seg := range db.segs {
		s.SegmentBytes += seg.bytes
		live += seg.live.Load()
		liveBytes += seg.liveBytes.Load()
		if seg.count > 0 {
			s.Segments++
		}
	}
	// Segments are counted now and then; how many updates are kept is known.
	if most := int64(db.kept.Load()); live > most {
		liveBytes = int64(float64(liveBytes) * float64(most) / float64(live))
	}
	s.LiveBytes += liveBytes
	return s
}
