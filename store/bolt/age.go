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
	cutoffs := make([]thing.Micros, len(ages)) // by rule
	for i, age := range ages {
		if age > 0 {
			cutoffs[i] = thing.MicrosOf(now.Add(-age))
		} else {
			cutoffs[i] = math.MinInt64
		}
	}
	p := &agePass{cutoffs: cutoffs}
	if err := db.view(p.run); err != nil {
		return err
	}
	db.evicting.Lock()
	before := db.evicted.Load()
	for id, next := range p.next {
		if r := p.rings[id]; r != nil && next > r.fk.Load() {
			if r.limit.Bytes > 0 {
				r.agedOut = max(r.agedOut, next-1)
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
	cutoffs []thing.Micros // by rule
	rings   []*ring
	// By Thing id: next is the first thing_seq that stays, probe the next
	// one to look at. They differ behind updates that were stamped before
	// clocks were set: such a one has no age of its own, and goes when
	// something behind it does.
	next, probe []uint64
}

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
	// Segments that are too old by every rule need their index alone. They
	// are looked at in their turn: a Thing's updates go in their order.
	done := make(map[uint64]bool)
	var e chunkEntry
	return s.units(0, func(u *unit) (enter, more bool) {
		if u.span.minReceived >= newest {
			return false, true
		}
		if u.span.maxReceived >= oldest || u.span.minReceived < plausible || u.segment == nil {
			return true, true
		}
		if !done[u.first] {
			done[u.first] = true
			err := s.eachIndexed(s.tx, u.segment, nil, &e, func(e *chunkEntry) bool {
				if r := s.ring(e.id); r != nil && r.ageRule >= 0 && p.probe[e.id] >= e.first && p.probe[e.id] <= e.last() {
					p.probe[e.id] = e.last() + 1
					p.next[e.id] = p.probe[e.id]
				}
				return true
			})
			if err != nil {
				s.damage(err)
			}
		}
		return false, true
	}, func(e *entry) bool {
		r := s.ring(e.id)
		if r == nil || r.ageRule < 0 || e.thingSeq != p.probe[e.id] {
			return true // not the Thing's oldest that is left
		}
		switch {
		case e.received < plausible:
			p.probe[e.id]++
		case e.received < p.cutoffs[r.ageRule]:
			p.probe[e.id]++
			p.next[e.id] = p.probe[e.id]
		}
		return true
	})
}

// saveAged writes down what age evicted, so that it stays so over a start.
func (db *DB) saveAged() error {
	db.writing.Lock()
	defer db.writing.Unlock()
	return db.update(false, db.putAged)
}

// putAged writes the first kept thing_seqs that limits by age moved, if any
// did since they were written last. What they evicted must be on disk before
// its bytes go, or a start would look for them.
func (db *DB) putAged(tx *bbolt.Tx) error {
	if !db.maint.agedDirty {
		return nil
	}
	raw := []byte{agedVersion}
	db.mu.RLock()
	var last uint32
	for id, r := range db.rings {
		if r != nil && r.ageRule >= 0 && r.fk.Load() > 1 {
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
		if f.bad || int(id) >= len(db.rings) {
			db.damage(damaged(bucketLimits, keyAged, errors.New("no such Thing")))
			return
		}
		if r := db.rings[id]; r != nil {
			r.agedOut = max(r.agedOut, min(fk, r.head)-1)
		}
	}
}
