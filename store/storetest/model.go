package storetest

import (
	"bytes"
	"encoding/json"
	"sort"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// model is a history that is slow and plainly right. It forgets nothing:
// what limits evict is only marked, so that it can tell what an engine ought
// to have counted.
type model struct {
	rules  *store.Rules
	log    []*kept // the update of Seq s is log[s-1]
	things map[thing.Name]*ring
	bytes  int // of all updates ever, with something for each
}

// kept is one update of the model.
type kept struct {
	thing.Update
	ring *ring
}

// evicted tells whether limits have taken the update.
func (k *kept) evicted() bool { return k.ThingSeq <= k.ring.evicted }

// ring is all that one Thing ever had.
type ring struct {
	name    thing.Name
	all     []*kept // the update of ThingSeq n is all[n-1]
	evicted uint64  // so many from the front are evicted
}

func (r *ring) live() []*kept { return r.all[r.evicted:] }
func (r *ring) newest() *kept { return r.all[len(r.all)-1] }
func (r *ring) oldest() *kept { return r.all[r.evicted] }

func newModel(rules []store.Rule) (*model, error) {
	m := &model{things: map[thing.Name]*ring{}}
	return m, m.setRules(rules)
}

// setRules puts other limits in force, at once.
func (m *model) setRules(rules []store.Rule) (err error) {
	if m.rules, err = store.NewRules(rules); err != nil {
		return err
	}
	for _, r := range m.things {
		m.limit(r)
	}
	return nil
}

// append takes a batch and gives it back numbered.
func (m *model) append(batch []thing.Update) []thing.Update {
	out := make([]thing.Update, 0, len(batch))
	for _, u := range batch {
		r := m.things[u.Name]
		if r == nil {
			r = &ring{name: u.Name}
			m.things[u.Name] = r
		}
		k := &kept{Update: copyUpdate(&u), ring: r}
		k.Seq, k.ThingSeq = uint64(len(m.log)+1), uint64(len(r.all)+1)
		m.log, r.all = append(m.log, k), append(r.all, k)
		m.bytes += k.Size() + 64
		m.limit(r)
		out = append(out, k.Update)
	}
	return out
}

// limit evicts by count and by bytes.
func (m *model) limit(r *ring) {
	limit, _ := m.rules.For(r.name)
	for over(r.live(), limit) {
		r.evicted++
	}
}

func over(live []*kept, limit store.Limit) bool {
	if len(live) == 1 {
		return false
	}
	if limit.Count > 0 && int64(len(live)) > limit.Count {
		return true
	}
	if limit.Bytes == 0 {
		return false
	}
	sum := int64(0)
	for _, k := range live {
		sum += int64(k.Size())
	}
	return sum > limit.Bytes
}

// age evicts by age, as of now.
func (m *model) age(now time.Time) {
	for _, r := range m.things {
		limit, _ := m.rules.For(r.name)
		if limit.Age == 0 {
			continue
		}
		for len(r.live()) > 1 && r.oldest().Received < thing.MicrosOf(now.Add(-limit.Age)) {
			r.evicted++
		}
	}
}

// head is the newest Seq.
func (m *model) head() uint64 { return uint64(len(m.log)) }

// rings gives all Things in byte order of their names.
func (m *model) rings() []*ring {
	out := make([]*ring, 0, len(m.things))
	for _, r := range m.things {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

// doc gives the documentation URL of the Thing as of one of its updates: the
// last truthy one up to it, nil for none.
func (r *ring) doc(asOf *kept) *kept {
	for i := asOf.ThingSeq; i > 0; i-- {
		if truthy(r.all[i-1].Doc) {
			return r.all[i-1]
		}
	}
	return nil
}

// truthy says what Python makes of a JSON value in a condition.
func truthy(doc []byte) bool {
	if doc == nil {
		return false
	}
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		return true // a number too large for a float
	}
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// copyUpdate makes a copy that shares no bytes. Nil stays nil.
func copyUpdate(u *thing.Update) thing.Update {
	c := *u
	c.Data, c.Doc = bytes.Clone(u.Data), bytes.Clone(u.Doc)
	return c
}

// copyBatch makes a copy that shares no bytes.
func copyBatch(batch []thing.Update) []thing.Update {
	out := make([]thing.Update, len(batch))
	for i := range batch {
		out[i] = copyUpdate(&batch[i])
	}
	return out
}
