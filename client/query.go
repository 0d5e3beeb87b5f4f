package client

import (
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// Update is one datum of a Thing with its time.
type Update = thing.Update

// Query asks for updates. All conditions hold together: filters come first,
// then Last, then Limit. The zero value asks for everything.
type Query struct {
	// Name is the Thing asked about, with all Things below it unless Alone.
	Name  thing.Name
	Alone bool
	// Since <= t < Until, where t is when the broker received the update,
	// or if ByTS, the time its source gave.
	Since, Until Bound
	ByTS         bool
	// After excludes updates with Seq <= After.
	After uint64
	// Last, unless 0, asks for the newest so many (by Seq) of each Thing.
	Last uint64
	// Limit, unless 0, ends the answer after so many updates.
	Limit uint64
	// Epoch, unless "", is the history that After belongs to: the answer is
	// a BrokerError with CodeEpochChanged if the broker has another.
	Epoch string
}

// Bound is one end of a span of time; the zero value is none.
type Bound struct {
	at  thing.Micros // as on the wire: <= 0 is before the broker's now
	set bool
}

// At bounds at a time. Times in or before the first microsecond of 1970
// count as that.
func At(t time.Time) Bound { return AtMicros(thing.MicrosOf(t)) }

// AtMicros bounds at a time, in microseconds since 1970.
func AtMicros(m thing.Micros) Bound { return Bound{at: max(m, 1), set: true} }

// Ago bounds at a time before now, by the broker's clock. Negative durations
// count as 0.
func Ago(d time.Duration) Bound {
	return Bound{at: -thing.Micros(max(d, 0) / time.Microsecond), set: true}
}

func (b Bound) wire() *thing.Micros {
	if !b.set {
		return nil
	}
	return &b.at
}

// absolute makes a bound that is relative to now absolute.
func (b Bound) absolute(now time.Time) Bound {
	if b.set && b.at <= 0 {
		return AtMicros(thing.MicrosOf(now) + b.at)
	}
	return b
}

// request makes the first request for the query.
func (q *Query) request() *wire.Request {
	r := &wire.Request{
		Type:  wire.TypeReplay,
		Since: q.Since.wire(),
		Until: q.Until.wire(),
		After: count(q.After),
		Last:  count(q.Last),
		Limit: count(q.Limit),
		Epoch: q.Epoch,
	}
	r.NS, r.Tree = scope(q.Name, q.Alone)
	if q.ByTS {
		r.By = wire.ByTS
	}
	return r
}

// scope gives the members ns and tree, absent where they are the default.
func scope(name thing.Name, alone bool) (ns *thing.Name, tree *bool) {
	if name != "" {
		ns = &name
	}
	if alone {
		tree = new(bool)
	}
	return ns, tree
}

func count(n uint64) *uint64 {
	if n == 0 {
		return nil
	}
	return &n
}
