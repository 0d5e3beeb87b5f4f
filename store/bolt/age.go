package bolt

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/metrics"
	"tbhist/thing"
)

const (
	// Age evicts nothing for so long after a start, and after the wall clock
	// was seen to step by more than clockStep: a computer without a clock of
	// its own boots in the past.
	distrustStart = 10 * time.Minute
	distrustStep  = time.Hour
	clockStep     = time.Minute
	saveAgedEvery = time.Minute
)

// plausible is the earliest time that a clock that was set can show; what
// was received before it has no age that could be told.
var plausible = thing.MicrosOf(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))

// ahead is by how much what was received may be later than now. What is later
// still was received while the clock was wrong, and has no age either, or it
// would keep a ring from ever growing old: by less, time heals it.
const ahead = 24 * time.Hour

// born is when the process began, for what is measured from.
var born = time.Now()

// clock watches the wall clock against the monotonic one.
type clock struct {
	wall, mono    time.Time
	distrustUntil time.Time // monotonic
	distrusted    bool
}

// watch tells whether the wall clock can be trusted. now is the injected
// clock; its steps are measured against the process's monotonic clock only
// where it is the real one, so that a test's clock may jump.
func (c *clock) watch(now time.Time, trust bool, mono time.Time) bool {
	if trust {
		return true
	}
	if c.mono.IsZero() {
		c.distrustUntil = mono.Add(distrustStart)
	} else {
		parted := now.Round(0).Sub(c.wall) - mono.Sub(c.mono)
		if parted.Abs() > clockStep && mono.Add(distrustStep).After(c.distrustUntil) {
			c.distrustUntil = mono.Add(distrustStep)
		}
	}
	c.wall, c.mono = now.Round(0), mono
	return !mono.Before(c.distrustUntil)
}

// ageOut evicts what is older than its rule's age: of each Thing from the
// oldest on, up to the first update that is young enough.
func (db *DB) ageOut() error {
	ages := db.ages()
	now := db.o.Now()
	mono := time.Now()
	trusted := db.maint.clock.watch(now, db.o.TrustClock, mono)
	if ages == nil {
		return nil
	}
	db.reportTrust(trusted)
	if !trusted {
		return nil
	}
	p := newAgePass(now, ages)
	if err := db.viewWith(true, p.run); err != nil {
		return err
	}
	db.evicting.Lock()
	before := db.evicted.Load()
	for id, next := range p.next {
		if r := p.rings[id]; r != nil && next > r.fk.Load() {
			if r.limit.Bytes > 0 {
				// The newest stays. Whether its age evicts it is asked again
				// when another comes: by then the clock may have stepped back.
				r.agedOut = max(r.agedOut, min(next, r.head)-1)
			}
			db.settle(r, next, metrics.EvictAge)
		}
	}
	if db.evicted.Load() != before {
		db.maint.agedDirty = true
	}
	db.evicting.Unlock()
	if db.maint.agedDirty && mono.Sub(db.maint.agedSaved) >= saveAgedEvery {
		db.maint.agedSaved = mono
		return db.saveAged()
	}
	return nil
}

// ages gives each rule's age; nil if there is none.
func (db *DB) ages() (ages []time.Duration) {
	all := db.rules.All()
	for i, rule := range all {
		if rule.Limit.Age > 0 {
			if ages == nil {
				ages = make([]time.Duration, len(all))
			}
			ages[i] = rule.Limit.Age
		}
	}
	return ages
}

func (db *DB) reportTrust(trusted bool) {
	if trusted != db.maint.clock.distrusted {
		return // as before
	}
	db.maint.clock.distrusted = !trusted
	if trusted {
		db.metrics.ClockDistrusted.Set(0)
		db.log.Info("the clock has been steady: limits by age evict")
		return
	}
	db.metrics.ClockDistrusted.Set(1)
	db.log.Info("the clock may be wrong yet: limits by age evict nothing")
}

// agePass is one look at the whole history for what is too old.
type agePass struct {
	now     thing.Micros
	latest  thing.Micros    // that can be true of what was received
	ages    []time.Duration // by rule, as are
	cutoffs []thing.Micros
	rings   []*ring
	// By Thing id: next is the first thing_seq that stays, probe the next
	// one to look at. They differ behind updates that were stamped by clocks
	// that were not set: such a one has no age of its own, and goes when
	// something behind it does.
	next, probe []uint64
	// passedOver tells that something was not looked at since nothing of it
	// goes: what lies behind it may wait for that.
	passedOver bool
}

func newAgePass(now time.Time, ages []time.Duration) *agePass {
	p := &agePass{
		now: thing.MicrosOf(now), latest: thing.MicrosOf(now.Add(ahead)),
		ages: ages, cutoffs: make([]thing.Micros, len(ages)),
	}
	for i, age := range ages {
		if age > 0 {
			p.cutoffs[i] = thing.MicrosOf(now.Add(-age))
		} else {
			p.cutoffs[i] = math.MinInt64
		}
	}
	return p
}

// blocked as a probe: an update that is young enough came.
const blocked = math.MaxUint64

func (p *agePass) run(s *snapshot) error {
	p.rings = s.rings
	p.next, p.probe = make([]uint64, len(s.rings)), make([]uint64, len(s.rings))
	oldest, newest := thing.Micros(math.MaxInt64), thing.Micros(math.MinInt64)
	for id, r := range s.rings {
		if r != nil && r.ageRule >= 0 {
			p.next[id] = r.fk.Load()
			p.probe[id] = p.next[id]
			oldest, newest = min(oldest, p.cutoffs[r.ageRule]), max(newest, p.cutoffs[r.ageRule])
		}
	}
	until := p.until(s, newest)
	// Segments that are too old by every rule need their index alone. They
	// are looked at in their turn: a Thing's updates go in their order.
	var e chunkEntry
	return s.units(0, func(u *unit) (enter, more bool) {
		if u.first > until {
			return false, false
		}
		if u.span.minReceived >= newest && u.span.maxReceived <= p.latest || (u.segment != nil && !p.due(s, u.segment)) {
			p.passedOver = true
			return false, true
		}
		if u.span.maxReceived >= oldest || p.misdated(u.span.minReceived) || u.segment == nil {
			return true, true
		}
		err := s.eachIndexed(s.tx, u.segment, nil, &e, func(e *chunkEntry) bool {
			if r := s.ring(e.id); r != nil && r.ageRule >= 0 && p.probe[e.id] <= e.last() && p.reaches(e.id, e.first) {
				p.probe[e.id] = e.last() + 1
				p.next[e.id] = p.probe[e.id]
			}
			return true
		})
		if err != nil {
			s.damage(err)
		}
		return false, true
	}, func(e *entry) bool {
		r := s.ring(e.id)
		if r == nil || r.ageRule < 0 || e.thingSeq < p.probe[e.id] || !p.reaches(e.id, e.thingSeq) {
			return true // not the Thing's oldest that is left
		}
		switch {
		case p.misdated(e.received):
			p.probe[e.id] = e.thingSeq + 1
		case e.received < p.cutoffs[r.ageRule]:
			p.probe[e.id] = e.thingSeq + 1
			p.next[e.id] = p.probe[e.id]
		default:
			p.probe[e.id] = blocked
		}
		return true
	})
}

// until gives the seq behind which nothing was received before the newest of
// the cutoffs, by a clock that was set: nothing before it goes for the sake of
// what is there. Under a clock that is behind, that is the whole history.
func (p *agePass) until(s *snapshot, newest thing.Micros) uint64 {
	mayGo := func(u *unit) bool { return u.span.minReceived < newest && u.span.maxReceived >= plausible }
	for i := len(s.records) - 1; i >= 0; i-- {
		if mayGo(&s.records[i].unit) {
			return s.records[i].last
		}
	}
	for i := len(s.segs) - 1; i >= 0; i-- {
		if mayGo(&s.segs[i].unit) {
			return s.segs[i].last
		}
	}
	return 0
}

// reaches tells whether nothing that is there lies between a Thing's probe
// and an update of it: what damage took holds nothing back.
func (p *agePass) reaches(id uint32, thingSeq uint64) bool {
	return p.probe[id] >= thingSeq || !p.passedOver
}

// misdated tells whether what was received then was received while the clock
// was wrong.
func (p *agePass) misdated(received thing.Micros) bool {
	return received < plausible || received > p.latest
}

// due tells whether anything of a segment may be old enough to go, from its
// index alone; between a short limit and a long one there may be all of a
// history that is not.
func (p *agePass) due(s *snapshot, seg *segment) bool {
	misdated := p.misdated(seg.span.minReceived) || p.misdated(seg.span.maxReceived)
	if p.now <= seg.ageDue && (!misdated || seg.ageDue == math.MaxInt64) {
		return false
	}
	due, any := thing.Micros(math.MaxInt64), false
	var e chunkEntry
	err := s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool {
		r := s.ring(e.id)
		if r == nil || r.ageRule < 0 || r.fk.Load() > e.last() {
			return true
		}
		if misdated {
			due = math.MinInt64
		} else {
			due = min(due, seg.span.minReceived+thing.Micros(p.ages[r.ageRule].Microseconds()))
		}
		// A Thing's newest stays, but for that only until the next comes.
		any = any || r.fk.Load() < s.heads[e.id]
		return true
	})
	if err != nil {
		s.damage(err)
		return true
	}
	seg.ageDue = due
	return any && p.now > due
}

// saveAged writes down what age evicted, so that it stays so over a start.
func (db *DB) saveAged() error {
	db.writing.Lock()
	defer db.writing.Unlock()
	err := db.update(false, db.putAged)
	if err == nil {
		db.maint.agedDirty = false
	}
	return err
}

// putAged writes the first kept thing_seqs that limits by age and by the size
// of the file moved, if any did since they were written last. What they
// evicted must be on disk before its bytes go, or a start would look for them.
func (db *DB) putAged(tx *bbolt.Tx) error {
	if !db.maint.agedDirty {
		return nil
	}
	raw := []byte{agedVersion}
	db.mu.RLock()
	var last uint32
	for id, r := range db.rings {
		if r != nil && !r.gone() && (r.ageRule >= 0 || r.forced) && r.fk.Load() > 1 {
			raw = binary.AppendUvarint(raw, uint64(uint32(id)-last))
			raw = binary.AppendUvarint(raw, r.fk.Load())
			last = uint32(id)
		}
	}
	db.mu.RUnlock()
	b := tx.Bucket(bucketLimits)
	if err := deleteRecords(b, keyAged, append(slices.Clone(keyAged), 0xff, 0xff, 0xff)); err != nil {
		return err
	}
	return putPieces(b, keyAged, db.codecs.envelope(nil, keyAged, kindAged, codecS2, raw))
}

const agedVersion = 1

// loadAged brings the rings to what putAged wrote.
func (db *DB) loadAged(tx *bbolt.Tx, r *reader) {
	raw, err := r.read(bucketLimits, tx.Bucket(bucketLimits).Cursor(), keyAged, kindAged)
	if errors.Is(err, errNoRecord) {
		return
	}
	if err != nil {
		db.damage(err)
		return
	}
	f := fields{b: raw}
	if f.byte() != agedVersion {
		return
	}
	var id uint32
	for len(f.b) > 0 {
		id += uint32(f.uv())
		fk := f.uv()
		if f.bad || uint64(id) >= uint64(len(db.rings)) {
			db.damage(damaged(bucketLimits, keyAged, errors.New("no such Thing")))
			return
		}
		if r := db.rings[id]; r != nil {
			if fk = min(fk, r.head); fk > 0 {
				r.agedOut, r.forced = max(r.agedOut, fk-1), true
			}
		}
	}
}
