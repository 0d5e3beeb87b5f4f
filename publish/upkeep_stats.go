package publish

import (
	"math"
	"slices"
	"strings"
	"time"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

// Tally sums what history holds of Things by prefix. Make it with NewTally.
// It is for one goroutine.
type Tally struct {
	ns    thing.Name
	depth int
	now   thing.Micros
	sums  map[thing.Name]*wire.PrefixStats
	total wire.PrefixStats
}

// NewTally begins a sum over the Things at and below ns. A prefix has depth
// parts more than ns; a Thing with fewer stands alone. now is the clock for
// how far back rings reach.
func NewTally(ns thing.Name, depth int, now thing.Micros) *Tally {
	return &Tally{ns: ns, depth: depth, now: now, sums: make(map[thing.Name]*wire.PrefixStats), total: wire.PrefixStats{NS: ns}}
}

// Add adds a Thing; one that is not at or below ns does not count.
func (t *Tally) Add(u store.ThingUsage) {
	if !u.Name.Under(t.ns) {
		return
	}
	prefix := prefixOf(u.Name, t.ns, t.depth)
	sum := t.sums[prefix]
	if sum == nil {
		// A copy, or the whole of a long name were held for it.
		prefix = thing.Name(strings.Clone(string(prefix)))
		sum = &wire.PrefixStats{NS: prefix}
		t.sums[prefix] = sum
	}
	reach := reachOf(&u, t.now)
	add(sum, &u, reach)
	add(&t.total, &u, reach)
}

func add(s *wire.PrefixStats, u *store.ThingUsage, reach time.Duration) {
	s.Things++
	s.Updates += u.Updates
	s.Bytes += u.Bytes
	if at := wire.Instant(u.Oldest); at != 0 && (s.Oldest == 0 || at < s.Oldest) {
		s.Oldest = at
	}
	s.Newest = max(s.Newest, wire.Instant(u.Newest))
	if reach > 0 && (s.Reach == 0 || wire.Span(reach) < s.Reach) {
		name := u.Name
		s.Reach, s.ReachOf = wire.Span(reach), &name
	}
}

// Stats gives the sums; members that are the history's own are left to the
// caller.
func (t *Tally) Stats() *wire.Stats {
	s := &wire.Stats{
		At: wire.Instant(t.now), NS: t.ns, Depth: t.depth,
		Total: t.total, Prefixes: make([]wire.PrefixStats, 0, len(t.sums)),
	}
	for _, sum := range t.sums {
		s.Prefixes = append(s.Prefixes, *sum)
	}
	slices.SortFunc(s.Prefixes, func(a, b wire.PrefixStats) int { return strings.Compare(string(a.NS), string(b.NS)) })
	return s
}

// prefixOf cuts a name that is under ns to depth parts more than that has.
func prefixOf(name, ns thing.Name, depth int) thing.Name {
	at := len(ns)
	for ; depth > 0 && at < len(name); depth-- {
		if name[at] == '.' {
			at++
		}
		if dot := strings.IndexByte(string(name[at:]), '.'); dot >= 0 {
			at += dot
		} else {
			at = len(name)
		}
	}
	return name[:at]
}

// reachOf tells how far back a Thing's ring goes once it is full, when updates
// go on coming as they did since the oldest kept one; 0 if nothing bounds it,
// or too little came to tell a rate.
func reachOf(u *store.ThingUsage, now thing.Micros) time.Duration {
	reach := math.Inf(1)
	if u.Limit.Age > 0 {
		reach = float64(u.Limit.Age)
	}
	if passed := float64(now-u.Oldest) * float64(time.Microsecond); u.Oldest != 0 && passed > 0 && u.Updates > 0 {
		// One update says nothing of a rate, unless it is all that may be kept.
		if u.Limit.Count > 0 && (u.Updates > 1 || u.Limit.Count == 1) {
			reach = min(reach, passed*float64(u.Limit.Count)/float64(u.Updates))
		}
		if u.Limit.Bytes > 0 && u.Bytes > 0 && (u.Updates > 1 || u.Bytes >= u.Limit.Bytes) {
			reach = min(reach, passed*float64(u.Limit.Bytes)/float64(u.Bytes))
		}
	}
	if math.IsInf(reach, 1) {
		return 0
	}
	return time.Duration(min(reach, math.MaxInt64/2))
}
