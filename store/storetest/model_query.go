package storetest

import (
	"tbhist/store"
	"tbhist/thing"
)

// question is a query with what its first page fixed.
type question struct {
	store.Query
	// With Last: the head at the first page, and for each Thing the Seq from
	// which on its updates are among the newest so many.
	head uint64
	from map[thing.Name]uint64
}

// ask fixes what Last means now.
func (m *model) ask(q store.Query) *question {
	a := &question{Query: q}
	if q.Last == 0 {
		return a
	}
	a.head, a.from = m.head(), map[thing.Name]uint64{}
	newest := map[thing.Name]uint64{}
	for i := len(m.log) - 1; i >= 0; i-- {
		if k := m.log[i]; a.filters(k) && newest[k.Name] < q.Last {
			newest[k.Name]++
			a.from[k.Name] = k.Seq
		}
	}
	return a
}

// wants tells whether an update belongs to the answer, whether or not it is
// still there, and before Limit.
func (a *question) wants(k *kept) bool {
	if !a.filters(k) {
		return false
	}
	if a.Last == 0 {
		return true
	}
	from, ok := a.from[k.Name]
	return ok && k.Seq >= from && k.Seq <= a.head
}

// filters holds an update against all but Last and Limit.
func (a *question) filters(k *kept) bool {
	if !a.about(k.Name) || k.Seq <= a.After || a.UpTo != 0 && k.Seq > a.UpTo {
		return false
	}
	at := timeOf(k, a.By)
	return (a.Since == nil || at >= *a.Since) && (a.Until == nil || at < *a.Until)
}

// about tells whether the question speaks of a Thing.
func (a *question) about(n thing.Name) bool {
	return selects(a.Name, a.Tree, n) && (a.Match == nil || a.Match(n))
}

func selects(name thing.Name, tree bool, n thing.Name) bool {
	return n == name || tree && n.Under(name)
}

func timeOf(k *kept, by store.By) thing.Micros {
	if by == store.ByTS {
		return thing.MicrosOfSeconds(k.TS)
	}
	return k.Received
}

// end is the last Seq that the answer covers, as things are now.
func (a *question) end(m *model) uint64 {
	if a.UpTo != 0 {
		return min(a.UpTo, m.head())
	}
	return m.head()
}

// live lists what of the answer is there now behind a position.
func (m *model) live(a *question, after uint64) []*kept {
	var out []*kept
	for i := after; i < m.head(); i++ {
		if k := m.log[i]; !k.evicted() && a.wants(k) {
			out = append(out, k)
		}
	}
	return out
}

// evictedIn counts the updates of the answer with after < Seq <= upTo that
// are evicted, but for those that were delivered before they were.
func (m *model) evictedIn(a *question, after, upTo uint64, delivered map[uint64]bool) uint64 {
	n := uint64(0)
	for i := after; i < min(upTo, m.head()); i++ {
		if k := m.log[i]; k.evicted() && !delivered[k.Seq] && a.wants(k) {
			n++
		}
	}
	return n
}

// noneEvicted tells whether no update of the Things asked for was evicted
// behind After, whatever its time. What an upper bound leaves out does not
// count: an engine need not know where in a Thing's past the evicted ones lay.
func (m *model) noneEvicted(a *question) bool {
	for _, r := range m.things {
		if r.evicted > 0 && r.all[r.evicted-1].Seq > a.After && a.about(r.name) {
			return false
		}
	}
	return true
}

// wholeTree tells whether the question is bounded by Seq alone.
func (a *question) wholeTree() bool {
	return a.Name == "" && a.Tree && a.Match == nil && a.Since == nil && a.Until == nil && a.Last == 0
}

// mustBeExact tells whether the engine has to know the number of evicted
// updates: for the whole tree bounded by Seq alone, for Last without
// filters, and where the lower bound lies behind all that was evicted of the
// Things asked for. still tells whether the history has not changed since
// the first page.
func (m *model) mustBeExact(a *question, still bool) bool {
	if a.wholeTree() {
		return true
	}
	if a.Last != 0 && a.Since == nil && a.Until == nil && a.After == 0 && a.UpTo == 0 && a.Limit == 0 {
		return still
	}
	return still && m.behindEvicted(a)
}

// behindEvicted tells whether the lower bound of the question lies behind
// everything evicted of the Things asked for. Where their times do not
// ascend, only a lower bound by Seq counts: an engine need not remember the
// latest time of what it no longer holds.
func (m *model) behindEvicted(a *question) bool {
	for _, r := range m.things {
		if r.evicted == 0 || !a.about(r.name) {
			continue
		}
		newest := r.all[r.evicted-1]
		if newest.Seq <= a.After {
			continue
		}
		if a.Since == nil || !ascending(r, a.By) || timeOf(newest, a.By) >= *a.Since {
			return false
		}
	}
	return true
}

func ascending(r *ring, by store.By) bool {
	for i := 1; i < len(r.all); i++ {
		if timeOf(r.all[i], by) < timeOf(r.all[i-1], by) {
			return false
		}
	}
	return true
}

// past is one entry that a past directory may or must have.
type past struct {
	name    thing.Name
	last    *kept // nil: unknown
	absent  bool  // it need not be listed
	doc     []byte
	docLost bool // the update with doc is evicted and another followed: doc may be nil
}

// asOf gives the directory at a past instant.
func (m *model) asOf(q store.AsOf) []past {
	var out []past
	for _, r := range m.rings() {
		if !selects(q.Name, q.Tree, r.name) || q.After != nil && r.name <= *q.After {
			continue
		}
		p := past{name: r.name}
		began := false // some evicted update was received by then
		for _, k := range r.all {
			switch {
			case k.Received > q.At:
			case k.evicted():
				began = true
			default:
				p.last = k
			}
		}
		if p.last == nil {
			if r.evicted > 0 {
				p.absent = !began
				out = append(out, p)
			}
			continue
		}
		if d := r.doc(p.last); d != nil {
			p.doc = d.Doc
			p.docLost = d.evicted() && r.doc(r.newest()) != d
		}
		out = append(out, p)
	}
	return out
}
