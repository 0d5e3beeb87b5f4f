package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"tbhist/thing"
)

// Thing is one Thing of a Directory. It is a name, and costs nothing to make:
// what it tells is what the directory has at that moment.
type Thing struct {
	d    *Directory
	name thing.Name
}

// Thing gives the Thing of a name. It need not be known yet: it has no data
// then. If the name is no namespace, or not in this directory, it never will
// have any: see Err.
func (d *Directory) Thing(name thing.Name) Thing { return Thing{d, name} }

// Root gives the Thing that all others of the directory lie below.
func (d *Directory) Root() Thing { return Thing{d, d.name} }

// Name gives the Thing's namespace.
func (t Thing) Name() thing.Name { return t.name }

// Err tells, as an *InvalidError, why the Thing can never have data: its name
// is no namespace, or lies outside of the directory. Nil for all others.
func (t Thing) Err() error {
	if _, err := thing.ParseName(string(t.name)); err != nil {
		return &InvalidError{err}
	}
	if !t.name.Under(t.d.name) {
		return &InvalidError{fmt.Errorf("%q is not in the directory of %q", t.name, t.d.name)}
	}
	return nil
}

// Data gives how old the newest data is, and a copy of it, as JSON. ok is
// false while there is none yet.
//
// The age is this machine's clock less the update's own time, so it is off
// by as much as this clock and its source's differ, and may be negative.
func (t Thing) Data() (age time.Duration, data []byte, ok bool) {
	u, ok := t.latest()
	if !ok {
		return 0, nil, false
	}
	return ageOf(t.d.now(), u.TS), bytes.Clone(u.Data), true
}

// HasData tells whether there is data by now.
func (t Thing) HasData() bool {
	_, ok := t.latest()
	return ok
}

// ErrNoData is what Decode returns of a Thing that has no data yet.
var ErrNoData = errors.New("the Thing has no data yet")

// Decode puts the newest data into v, as json.Unmarshal does, and gives its
// age as Data does. The error is ErrNoData while there is none, or says why
// the data does not fit v.
func (t Thing) Decode(v any) (age time.Duration, err error) {
	u, ok := t.latest()
	if !ok {
		return 0, ErrNoData
	}
	if err := json.Unmarshal(u.Data, v); err != nil {
		return 0, fmt.Errorf("the data of %q: %w", t.name, err)
	}
	return ageOf(t.d.now(), u.TS), nil
}

// Latest gives a copy of all that is known of the Thing: its newest update,
// with time, numbers and when the broker received it, and its documentation
// URL. ok is false while there is none.
func (t Thing) Latest() (e Entry, ok bool) {
	u, ok := t.latest()
	if !ok {
		return Entry{}, false
	}
	e = Entry{Update: u, Doc: bytes.Clone(u.Doc)}
	e.Update.Data, e.Update.Doc = bytes.Clone(u.Data), nil
	return e, true
}

// latest gives the newest update, whose Doc is the documentation URL in
// force; its bytes are the directory's.
func (t Thing) latest() (Update, bool) {
	t.d.mu.RLock()
	defer t.d.mu.RUnlock()
	n := t.d.nodes[t.name]
	if n == nil || !n.known {
		return Update{}, false
	}
	return n.latest, true
}

// DocumentationURL gives where people read what the data means: the last one
// that was not empty; "" while there is none. If it is no text, it is JSON.
func (t Thing) DocumentationURL() string {
	u, ok := t.latest()
	if !ok {
		return ""
	}
	var text string
	if json.Unmarshal(u.Doc, &text) != nil {
		return string(u.Doc)
	}
	return text
}

// Parent gives the Thing above; ok is false for the directory's root.
func (t Thing) Parent() (parent Thing, ok bool) {
	if t.name == t.d.name {
		return Thing{}, false
	}
	name, ok := t.name.Parent()
	return Thing{t.d, name}, ok
}

// Children gives the Things one level below that are known, in byte order of
// their names. Some may have no data, but Things below them that have.
func (t Thing) Children() []Thing {
	t.d.mu.RLock()
	defer t.d.mu.RUnlock()
	n := t.d.nodes[t.name]
	if n == nil {
		return nil
	}
	var names []thing.Name
	for _, c := range n.children {
		names = append(names, c.name)
	}
	return t.d.sorted(names)
}

// Walk yields the Thing and all below it that are known, in byte order of
// their names, as they are when the loop begins. Some may have no data, but
// Things below them that have.
func (t Thing) Walk() iter.Seq[Thing] {
	return func(yield func(Thing) bool) {
		t.d.mu.RLock()
		var names []thing.Name
		if n := t.d.nodes[t.name]; n != nil {
			names = n.below(nil)
		}
		t.d.mu.RUnlock()
		for _, thing := range t.d.sorted(names) {
			if !yield(thing) {
				return
			}
		}
	}
}

func (d *Directory) sorted(names []thing.Name) []Thing {
	slices.Sort(names)
	all := make([]Thing, len(names))
	for i, name := range names {
		all[i] = Thing{d, name}
	}
	return all
}

// ageOf gives now less a time in seconds since 1970. A source may say any
// time; durations end at 292 years.
func ageOf(now time.Time, ts float64) time.Duration {
	const most = float64(1<<63-1) / float64(time.Second) / 2
	seconds := thing.MicrosOf(now).Seconds() - ts
	return time.Duration(min(max(seconds, -most), most) * float64(time.Second))
}
