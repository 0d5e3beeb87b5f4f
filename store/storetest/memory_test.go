package storetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// memory is an engine made of the model. It keeps its history while it is
// reopened and loses it with the process.
type memory struct {
	mu     sync.Mutex
	m      *model
	o      Options
	epoch  string
	closed bool
	defect string // what it does wrong on purpose, "" for nothing
}

var epochs struct {
	sync.Mutex
	n uint32
}

func openMemory(t *testing.T, o Options, defect string) Engine {
	epochs.Lock()
	defer epochs.Unlock()
	epochs.n++
	e := &memory{o: o, epoch: fmt.Sprintf("%08x", epochs.n), defect: defect}
	var err error
	if e.m, err = newModel(e.rules(o.Rules)); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *memory) Reopen(t *testing.T, o Options) Engine {
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := &memory{m: e.m, o: o, epoch: e.epoch, defect: e.defect}
	n.reopened()
	if err := n.m.setRules(n.rules(o.Rules)); err != nil {
		t.Fatal(err)
	}
	return n
}

func (e *memory) Maintain(*testing.T) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.o.TrustClock || e.has("age without trust") {
		e.age()
	}
	e.bound()
}

// bound holds the history to MaxDB.
func (e *memory) bound() {
	live := int64(0)
	sizes := map[*ring]int64{}
	for _, k := range e.m.log {
		if !k.evicted() {
			live += int64(k.Size())
			sizes[k.ring] += int64(k.Size())
		}
	}
	for _, k := range e.m.log {
		if e.o.MaxDB == 0 || live <= e.o.MaxDB {
			return
		}
		if k.evicted() || k == k.ring.newest() || sizes[k.ring] <= e.o.MaxDB/int64(len(sizes)) && !e.has("unfair") {
			continue
		}
		k.ring.evicted++
		live -= int64(k.Size())
		sizes[k.ring] -= int64(k.Size())
	}
}

func (e *memory) Append(ctx context.Context, batch []thing.Update) ([]thing.Update, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.usable(ctx); err != nil {
		return nil, err
	}
	return e.append(batch), nil
}

func (e *memory) usable(ctx context.Context) error {
	if e.closed {
		return store.ErrClosed
	}
	return ctx.Err()
}

func (e *memory) Latest(yield func(*thing.Update, []byte) bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return store.ErrClosed
	}
	for r := range maps.Values(e.m.things) {
		var doc []byte
		if k := e.sticky(r, r.newest()); k != nil {
			doc = k.Doc
		}
		if u := e.shown(r.newest()); !yield(&u, doc) {
			return nil
		}
	}
	return nil
}

// memoryResume is what a position looks like: the epoch, then these.
type memoryResume struct{ Last, Delivered, Head, Bound uint64 }

func (e *memory) Read(ctx context.Context, q store.Query, yield func(*thing.Update) bool) (store.Page, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.usable(ctx); err != nil {
		return store.Page{}, err
	}
	at := memoryResume{Last: q.After, Head: e.m.head()}
	if q.Resume != nil {
		if len(q.Resume) != 40 || string(q.Resume[:8]) != e.epoch {
			return store.Page{}, e.badResume(q.Resume)
		}
		if _, err := binary.Decode(q.Resume[8:], binary.BigEndian, &at); err != nil {
			return store.Page{}, err
		}
		if at.Last < q.After || at.Last > e.m.head() || at.Head > e.m.head() {
			return store.Page{}, store.ErrBadResume
		}
	}
	// Last as of the head at the first page.
	asked := q
	asked.UpTo, asked.Match = q.UpTo, e.matchOnce(q.Match)
	if q.Last != 0 && (q.UpTo == 0 || q.UpTo > at.Head) {
		asked.UpTo = max(at.Head, 1)
	}
	a := e.m.ask(asked)
	a.head = at.Head
	return e.page(ctx, a, q, at, yield)
}

// page walks the answer from a position on.
func (e *memory) page(ctx context.Context, a *question, q store.Query, at memoryResume, yield func(*thing.Update) bool) (store.Page, error) {
	p := store.Page{Head: e.m.head(), EvictedExact: true}
	from, end := at.Last, max(a.end(e.m), q.After)
	if q.Limit != 0 && e.has("limit one too high") {
		q.Limit++
	}
	for _, k := range e.answer(a, at.Last) {
		if err := ctx.Err(); err != nil {
			return p, err
		}
		if q.Limit != 0 && at.Delivered == q.Limit {
			p.Limited, end = true, at.Last
			break
		}
		if u := e.shown(k); !yield(&u) {
			end = at.Last
			p.Next = e.position(at)
			break
		}
		if p.Count++; p.Count == 1 {
			p.First = k.Seq
		}
		p.Last = k.Seq
		at.Last = k.Seq
		at.Delivered++
	}
	p.Evicted = e.m.evictedIn(a, from, end, nil)
	e.miscount(a, &p)
	return p, nil
}

func (e *memory) position(at memoryResume) []byte {
	b, _ := binary.Append([]byte(e.epoch), binary.BigEndian, at) // fixed size: cannot fail
	return b
}

// matchOnce asks match once for each Thing.
func (e *memory) matchOnce(match func(thing.Name) bool) func(thing.Name) bool {
	if match == nil || e.has("match for each update") {
		return match
	}
	known := map[thing.Name]bool{}
	return func(n thing.Name) bool {
		ok, asked := known[n]
		if !asked {
			ok = match(n)
			known[n] = ok
		}
		return ok
	}
}

func (e *memory) AsOf(ctx context.Context, q store.AsOf, yield func(*store.PastEntry) bool) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.usable(ctx); err != nil {
		return 0, err
	}
	for _, p := range e.past(q) {
		entry := store.PastEntry{Unknown: p.last == nil, Doc: p.doc}
		entry.Update.Name = p.name
		if p.last != nil {
			entry.Update = e.shown(p.last)
		}
		if !yield(&entry) {
			break
		}
	}
	return e.m.head(), nil
}

func (e *memory) Kept(ctx context.Context, names []thing.Name, yield func(int, uint64, thing.Micros)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.usable(ctx); err != nil {
		return err
	}
	for i, n := range names {
		if r := e.m.things[n]; r != nil {
			yield(i, uint64(len(r.live())), r.oldest().Received)
		} else {
			yield(i, 0, 0)
		}
	}
	return nil
}

func (e *memory) State() store.State {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := store.State{Epoch: e.epoch, Head: e.m.head(), Things: len(e.m.things)}
	for i, r := range e.m.rings() {
		s.Updates += uint64(len(r.live()))
		oldest := slices.MinFunc(r.live(), func(a, b *kept) int { return int(a.Received - b.Received) }).Received
		if i == 0 || oldest < s.Oldest {
			s.Oldest = oldest
		}
	}
	return s
}

func (e *memory) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = !e.has("reads after Close")
	return nil
}
