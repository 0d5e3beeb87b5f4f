package bolt

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/metrics"
	"tbhist/store"
	"tbhist/thing"
)

// limits are the limits in force as the file has them (docs/FORMAT.md,
// Limits).
type limits struct {
	Rules []savedRule `json:"rules"`
}

type savedRule struct {
	Prefix thing.Name `json:"prefix"`
	Count  int64      `json:"count"`
	AgeUS  int64      `json:"age_us"`
	Bytes  int64      `json:"bytes"`
}

func (r *reader) loadLimits(tx *bbolt.Tx) (*limits, error) {
	raw, err := r.read(bucketLimits, tx.Bucket(bucketLimits).Cursor(), keyLimits, kindLimits)
	if err != nil {
		// A new file has none; damaged ones are as good as none.
		return &limits{}, nil //nolint:nilerr // said above
	}
	l, err := parseLimits(raw)
	if err != nil {
		return &limits{}, nil //nolint:nilerr // likewise
	}
	return l, nil
}

// parseLimits reads what putLimits wrote.
func parseLimits(raw []byte) (*limits, error) {
	l := &limits{}
	if err := json.Unmarshal(raw, l); err != nil {
		return nil, err
	}
	_, err := l.rules() // there may be two for one namespace
	return l, err
}

// longestAgeUS is the longest age that a time.Duration holds: a longer one
// would be some other, or none.
const longestAgeUS = math.MaxInt64 / int64(time.Microsecond)

// rules makes rules of them.
func (l *limits) rules() (*store.Rules, error) {
	var rules []store.Rule
	for _, r := range l.Rules {
		age := time.Duration(min(r.AgeUS, longestAgeUS)) * time.Microsecond
		if r.AgeUS < 0 {
			age = store.Unlimited
		}
		rules = append(rules, store.Rule{Prefix: r.Prefix, Limit: store.Limit{Count: r.Count, Age: age, Bytes: r.Bytes}})
	}
	return store.NewRules(rules)
}

// ageUS is an age as it is written: Unlimited is a nanosecond less than none,
// which in microseconds would be no limit set.
func ageUS(age time.Duration) int64 {
	if age < 0 {
		return store.Unlimited
	}
	return age.Microseconds()
}

// putLimits writes the limits in force. Under writing.
func (db *DB) putLimits(tx *bbolt.Tx) error {
	l := limits{Rules: []savedRule{}}
	for _, r := range db.rules.All() {
		l.Rules = append(l.Rules, savedRule{
			Prefix: r.Prefix, Count: r.Limit.Count, AgeUS: ageUS(r.Limit.Age), Bytes: r.Limit.Bytes,
		})
	}
	raw, err := json.Marshal(&l)
	if err != nil {
		return err
	}
	b := tx.Bucket(bucketLimits)
	if err := deleteRecords(b, keyLimits, append(slices.Clone(keyLimits), 0xff, 0xff, 0xff)); err != nil {
		return err
	}
	return putPieces(b, keyLimits, db.codecs.envelope(nil, keyLimits, kindLimits, codecRaw, raw))
}

// applyLimits holds the limits that were in force up to head, so that a
// raised one brings nothing back, then those asked for now. Changed ones
// are written with a checkpoint: the old ones can no longer be worked out.
func (db *DB) applyLimits(old *limits) error {
	wanted := db.rules
	changed := !old.same(wanted)
	if err := db.applyOld(old); err != nil {
		return err
	}
	if !changed {
		return nil
	}
	db.rules = wanted
	for _, r := range db.rings {
		if r != nil {
			r.sizes = nil
			hadBytes := r.limit.Bytes > 0
			db.limitsOf(r)
			if r.limit.Bytes > 0 && !hadBytes {
				db.sumBytes(r)
			}
			db.settle(r, 0, metrics.EvictBytes)
		}
	}
	return db.checkpoint()
}

// applyOld holds the limits that were in force up to head.
func (db *DB) applyOld(old *limits) error {
	rules, err := old.rules()
	if err != nil {
		return err
	}
	db.rules = rules
	if err := db.holdLimits(); err != nil {
		return err
	}
	db.evicted.Store(db.evictedByRings())
	db.counting = true
	return nil
}

// evictedByRings adds up what all rings evicted, ever.
func (db *DB) evictedByRings() (n uint64) {
	for _, r := range db.rings {
		if r != nil {
			n += r.fk.Load() - 1
		}
	}
	return n
}

func (l *limits) same(rules *store.Rules) bool {
	all := rules.All()
	if len(l.Rules) != len(all) {
		return false
	}
	for i, r := range all {
		o := l.Rules[i]
		if o.Prefix != r.Prefix || o.Count != r.Limit.Count || o.Bytes != r.Limit.Bytes ||
			o.AgeUS != ageUS(r.Limit.Age) {
			return false
		}
	}
	return true
}

// holdLimits applies db.rules to every ring at start.
func (db *DB) holdLimits() error {
	for _, r := range db.rings {
		if r != nil {
			db.limitsOf(r)
		}
	}
	for _, r := range db.rings {
		if r != nil {
			db.settle(r, r.agedOut+1, metrics.EvictAge)
		}
	}
	return nil
}

// sumBytes adds up what is kept of a ring that has a byte limit for the
// first time, or whose sum is lost.
func (db *DB) sumBytes(r *ring) {
	fk := r.fk.Load()
	var sum int64
	err := db.view(func(s *snapshot) error {
		sel := newSelection([]uint32{r.id})
		var e chunkEntry
		for _, seg := range s.segs {
			err := s.eachSized(seg, sel, &e, func(e *chunkEntry) bool {
				for i, size := range e.sizes {
					if e.first+uint64(i) >= fk {
						sum += int64(size)
					}
				}
				return true
			})
			if err != nil {
				s.damage(err)
			}
		}
		logged := s.loggedSizes(r)
		first := r.head - uint64(len(logged)) + 1
		for i, size := range logged {
			if first+uint64(i) >= fk {
				sum += int64(size)
			}
		}
		return nil
	})
	if err != nil {
		db.damage(err)
		return
	}
	r.bytes = sum
}
