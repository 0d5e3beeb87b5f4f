package publish

import (
	"bytes"
	"slices"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

// updateHead begins every update; behind it stands the name and its closing
// quote.
const updateHead = wire.UpdatePrefix + `, "ns": "`

// coversUpdates tells whether every update begins with prefix.
func coversUpdates(prefix []byte) bool {
	return len(prefix) <= len(updateHead) && updateHead[:len(prefix)] == string(prefix)
}

// nameOn gives what of a prefix comes behind updateHead; ok is false for one
// that no update, or every update, begins with.
func nameOn(prefix []byte) (rest []byte, ok bool) {
	if len(prefix) <= len(updateHead) || string(prefix[:len(updateHead)]) != updateHead {
		return nil, false
	}
	return prefix[len(updateHead):], true
}

// related tells whether messages that begin with head may begin with prefix.
func related(prefix []byte, head string) bool {
	n := min(len(prefix), len(head))
	return string(prefix[:n]) == head[:n]
}

// prefixes is a set of prefixes, none of which is a prefix of another, in
// ascending order. So at most one can fit a message: the last that is not
// greater than it.
type prefixes [][]byte

// newPrefixes takes over set and its order.
func newPrefixes(set [][]byte) prefixes {
	slices.SortFunc(set, bytes.Compare)
	kept := set[:0]
	for _, p := range set {
		if len(kept) == 0 || !bytes.HasPrefix(p, kept[len(kept)-1]) {
			kept = append(kept, p)
		}
	}
	return kept
}

// match tells whether one of the prefixes begins msg.
func (s prefixes) match(msg []byte) bool {
	if len(s) <= 4 {
		for _, p := range s {
			if bytes.HasPrefix(msg, p) {
				return true
			}
		}
		return false
	}
	lo, hi := 0, len(s) // s[:lo] <= msg < s[hi:]
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); bytes.Compare(s[mid], msg) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo > 0 && bytes.HasPrefix(msg, s[lo-1])
}

// matcher is a subscriber's prefixes at one time. It never changes.
type matcher struct {
	all     bool     // every update matches
	updates prefixes // behind updateHead, unless all
	names   prefixes // the same, cut behind the name's closing quote
	byName  bool     // names decides: no prefix reaches behind the name
	others  prefixes // whole prefixes, for what is not an update
}

// newMatcher takes over the prefixes.
func newMatcher(set [][]byte) *matcher {
	m := &matcher{byName: true}
	var updates, names, others [][]byte
	for _, p := range set {
		if related(p, wire.SnapshotPrefix) || related(p, wire.HeartbeatPrefix) {
			others = append(others, p)
		}
		if coversUpdates(p) {
			m.all = true
		} else if rest, ok := nameOn(p); ok {
			name := rest
			if i := bytes.IndexByte(rest, '"'); i >= 0 {
				name = rest[:i+1]
				m.byName = m.byName && i+1 == len(rest)
			}
			updates, names = append(updates, rest), append(names, name)
		}
	}
	m.others = newPrefixes(others)
	if m.all {
		m.byName = true
		return m
	}
	m.updates, m.names = newPrefixes(updates), newPrefixes(names)
	return m
}

// none tells that no update matches.
func (m *matcher) none() bool { return !m.all && len(m.updates) == 0 }

// update tells whether the line of an update matches.
func (m *matcher) update(line []byte) bool {
	return m.all || m.updates.match(line[len(updateHead):])
}

// other tells whether a snapshot or a heartbeat matches.
func (m *matcher) other(msg []byte) bool { return m.others.match(msg) }

// name tells whether an update of the Thing may match.
func (m *matcher) name(n thing.Name) bool {
	if m.all {
		return true
	}
	var quoted [thing.MaxNameBytes + 1]byte
	b := append(append(quoted[:0], n...), '"')
	return m.names.match(b)
}

// query gives the question for the updates that may match: all of them, and
// where byName is false perhaps more.
func (m *matcher) query() store.Query {
	q := store.Query{Tree: true}
	switch {
	case m.all:
		return q
	case len(m.names) == 1: // one Thing
		if name, ok := bytes.CutSuffix(m.names[0], []byte{'"'}); ok && thing.ValidName(name) {
			return store.Query{Name: thing.Name(name)}
		}
	case len(m.names) == 2: // a Thing and all below it
		name, ok := bytes.CutSuffix(m.names[0], []byte{'"'})
		below, okBelow := bytes.CutSuffix(m.names[1], []byte{'.'})
		if ok && okBelow && len(name) > 0 && bytes.Equal(name, below) && thing.ValidName(name) {
			return store.Query{Name: thing.Name(name), Tree: true}
		}
	}
	q.Match = m.name
	return q
}
