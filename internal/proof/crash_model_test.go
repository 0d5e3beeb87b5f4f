//go:build proof

package proof

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// crashModel is what is known of a history: what a subscriber ever saw of it,
// and what it held when it was read last. What is known may leave it by its
// limits and in no other way.
type crashModel struct {
	epoch  string
	newest uint64 // the greatest seq known
	seen   int    // updates seen live
	things map[thing.Name]*crashThing

	// refused tells that syncs fail: updates may go by that are not kept, and
	// never will be. unkept are their numbers.
	refused bool
	unkept  map[thing.Name]map[int64]bool

	forgotten uint64 // updates
	sized     uint64 // updates that the size of the file evicted
	sizedMost uint64 // so many by what brokers logged
}

// crashThing is one Thing of it.
type crashThing struct {
	name  thing.Name
	first uint64 // first kept thing_seq when history was read last
	facts []fact // from thing_seq first on; of seq 0 where nothing is known

	sticky   []byte // the documentation URL in force
	stickyAt uint64 // thing_seq of what brought it

	// Of the reading under way.
	readFirst, readLast uint64 // thing_seq
	last                thing.Update
	lastN               int64 // what the sender counted
}

// fact is what is known of one update.
type fact struct {
	seq, hash uint64
	received  thing.Micros
	size      uint32
	seen      bool // live, by the subscriber
}

func newCrashModel() *crashModel {
	return &crashModel{things: map[thing.Name]*crashThing{}, unkept: map[thing.Name]map[int64]bool{}}
}

func (f fact) String() string {
	how := "held by history once"
	if f.seen {
		how = "seen live"
	}
	return fmt.Sprintf("seq %d, received %d, %s", f.seq, f.received, how)
}

// lose takes in an update that came without a seq.
func (m *crashModel) lose(u *thing.Update) error {
	if !m.refused {
		return fmt.Errorf("an update of %q came without a seq: %.100s", u.Name, u.Data)
	}
	n, err := crashNumber(u.Data)
	if m.unkept[u.Name] == nil {
		m.unkept[u.Name] = map[int64]bool{}
	}
	m.unkept[u.Name][n] = true
	return err
}

// know takes in an update that was seen, live or in history. What is known
// already must be the same.
func (m *crashModel) know(u *thing.Update, line []byte, live bool) (*crashThing, error) {
	t := m.things[u.Name]
	if t == nil {
		t = &crashThing{name: u.Name, first: 1}
		m.things[u.Name] = t
	}
	if u.ThingSeq < t.first {
		return t, fmt.Errorf("%q thing_seq %d, seq %d: was evicted before, up to thing_seq %d", u.Name, u.ThingSeq, u.Seq, t.first-1)
	}
	at := u.ThingSeq - t.first
	for uint64(len(t.facts)) <= at {
		t.facts = append(t.facts, fact{})
	}
	f := &t.facts[at]
	hash := maphash.Bytes(seed, line)
	switch {
	case f.seq == 0:
		*f = fact{u.Seq, hash, u.Received, uint32(u.Size()), live}
	case f.seq != u.Seq || f.hash != hash:
		return t, fmt.Errorf("%q thing_seq %d is not what it was: %v; now it is %.300s", u.Name, u.ThingSeq, *f, line)
	default:
		f.seen = f.seen || live
	}
	if live {
		m.seen++
	}
	m.newest = max(m.newest, u.Seq)
	if u.ThingSeq > t.stickyAt && wire.Truthy(u.Doc) {
		t.sticky, t.stickyAt = bytes.Clone(u.Doc), u.ThingSeq
	}
	return t, nil
}

// has tells whether anything below root is known.
func (m *crashModel) has(root thing.Name) bool {
	for name := range m.things {
		if name.Under(root) {
			return true
		}
	}
	return false
}

// reading is history as it is read from its beginning.
type reading struct {
	m     *crashModel
	lines uint64
	seq   uint64 // of the last line
}

func (m *crashModel) read() *reading {
	for _, t := range m.things {
		t.readFirst, t.readLast = 0, 0
	}
	return &reading{m: m}
}

// line takes in the next line of history.
func (r *reading) line(line []byte) error {
	u, err := wire.ParseUpdate(line)
	if err != nil {
		return fmt.Errorf("%w: %.300q", err, line)
	}
	if u.Seq <= r.seq {
		return fmt.Errorf("history has seq %d behind %d", u.Seq, r.seq)
	}
	r.seq, r.lines = u.Seq, r.lines+1
	t, err := r.m.know(&u, line, false)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	n, err := crashNumber(u.Data)
	switch {
	case err != nil:
		return err
	case r.m.unkept[u.Name][n]:
		return fmt.Errorf("history has %q thing_seq %d, seq %d, which was seen without a seq", u.Name, u.ThingSeq, u.Seq)
	case t.readLast == 0:
		t.readFirst = u.ThingSeq
	case u.ThingSeq != t.readLast+1:
		return fmt.Errorf("history: %q goes from thing_seq %d to %d at seq %d", u.Name, t.readLast, u.ThingSeq, u.Seq)
	case n <= t.lastN:
		return fmt.Errorf("history: %q thing_seq %d, seq %d was sent as number %d, and the one before it as %d", u.Name, u.ThingSeq, u.Seq, n, t.lastN)
	}
	t.readLast, t.lastN = u.ThingSeq, n
	data := append(t.last.Data[:0], u.Data...)
	t.last = u
	t.last.Data = data
	return nil
}

// given counts the updates that there ever were, by what was read.
func (r *reading) given() uint64 {
	n := r.m.forgotten
	for _, t := range r.m.things {
		n += t.readLast
	}
	return n
}

// mostComplaints bounds what one check says.
const mostComplaints = 20

// complete judges what was read: all of history, whose head is head. It was
// held to sure, and perhaps to maybe, since it was read before.
func (r *reading) complete(head uint64, sure, maybe []crashLimits) error {
	m := r.m
	var errs []error
	complain := func(format string, args ...any) {
		if len(errs) < mostComplaints {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if head < m.newest {
		complain("history ends with seq %d, and seq %d was there", head, m.newest)
	}
	var sized uint64
	for _, name := range slices.Sorted(maps.Keys(m.things)) {
		t := m.things[name]
		if t.readLast == 0 {
			complain("nothing of %q is left; its newest was %v", name, t.facts[len(t.facts)-1])
			continue
		}
		for i, f := range t.facts {
			if n := t.first + uint64(i); f.seq != 0 && n > t.readLast {
				complain("lost: %q thing_seq %d, %v: history ends with thing_seq %d", name, n, f, t.readLast)
			}
		}
		low := t.first
		for _, l := range sure {
			low = max(low, l.floor(t))
		}
		high := low
		for _, l := range maybe {
			high = max(high, l.floor(t))
		}
		switch fk := t.readFirst; {
		case fk < low:
			complain("%q is held from thing_seq %d on (to %d), its limits allow it from %d", name, fk, t.readLast, low)
		case fk > high:
			sized += fk - high
			if m.sized+sized > m.sizedMost {
				for n := high; n < min(fk, t.first+uint64(len(t.facts))); n++ {
					complain("lost: %q thing_seq %d, %v: history begins with thing_seq %d, its limits hold it from %d", name, n, t.facts[n-t.first], fk, high)
				}
			}
		case fk != low && fk != high:
			complain("%q is held from thing_seq %d on, neither from %d nor from %d", name, fk, low, high)
		}
	}
	if m.sized += sized; m.sized > m.sizedMost {
		complain("%d updates are gone by no limit of theirs; for the size of the file %d were evicted", m.sized, m.sizedMost)
	}
	if given := r.given(); given != head {
		complain("history ends with seq %d, and all Things together had %d updates", head, given)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, t := range m.things {
		t.facts = slices.Clone(t.facts[t.readFirst-t.first:])
		t.first = t.readFirst
	}
	return nil
}

// directory demands of an entry of the directory that it is the last of its
// Thing; kept is how many history is said to have of it.
func (m *crashModel) directory(u *thing.Update, doc []byte, kept uint64) error {
	t := m.things[u.Name]
	if t == nil || t.readLast == 0 {
		return fmt.Errorf("the directory has %q, of which history has nothing", u.Name)
	}
	l := &t.last
	switch {
	case u.Seq != l.Seq || u.ThingSeq != l.ThingSeq || u.Received != l.Received || u.TS != l.TS || !bytes.Equal(u.Data, l.Data):
		return fmt.Errorf("the directory has %q with seq %d, thing_seq %d, received %d, ts %v, data %.100s; history has seq %d, thing_seq %d, received %d, ts %v, data %.100s",
			u.Name, u.Seq, u.ThingSeq, u.Received, u.TS, u.Data, l.Seq, l.ThingSeq, l.Received, l.TS, l.Data)
	case !bytes.Equal(doc, t.sticky):
		return fmt.Errorf("the directory has %q with the documentation URL %.100s, and not %.100s", u.Name, doc, t.sticky)
	case kept != t.readLast-t.readFirst+1:
		return fmt.Errorf("the directory says that %d updates are kept of %q, and history has %d", kept, u.Name, t.readLast-t.readFirst+1)
	}
	return nil
}
