// Package directory holds the latest update of each Thing in memory, and
// makes snapshots of them. It does no I/O.
package directory

import (
	"sync"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// Options of a Directory. The zero value takes the defaults.
type Options struct {
	// MaxSources is how many sources of a Thing are counted; 8.
	MaxSources int
	// Now is the clock that ages of sources are told by; time.Now.
	Now func() time.Time
}

// SourceMemory is how long a source counts after its last update.
const SourceMemory = time.Hour

// Directory is the latest of each Thing. All methods may be called at the
// same time, from any goroutine; Restore before the first Apply.
type Directory struct {
	o Options

	// snapMu is held by the one snapshot being made. It is taken before mu.
	snapMu sync.Mutex

	// mu guards what follows and the items' contents.
	mu       sync.RWMutex
	items    map[thing.Name]*item
	slots    thing.Slots[item]
	found    []*item // of each update of a batch; a buffer of Apply
	sorted   []*item // in byte order of names; never written to again
	fresh    []*item // not in sorted yet, in no order
	merges   uint64  // counts new values of sorted
	head     uint64  // highest seq seen
	position uint64  // of the last Apply
	cut      *cut    // the snapshot being made, nil when there is none
	cuts     uint64  // counts snapshots
}

// item is one Thing.
type item struct {
	name          thing.Name
	data, doc     []byte // owned and reused; doc is the sticky one, nil for none
	ts            float64
	received      thing.Micros
	seq, thingSeq uint64
	updates       uint64
	cut           uint64 // the last snapshot that has this item
	gone          bool   // forgotten; another item may have its name
	last          *thing.Source
	sources       []seen
}

// Entry is what the directory knows of one Thing.
type Entry struct {
	// Update is the latest. Its Doc is not remembered: nil.
	Update thing.Update
	// Doc is the documentation URL in force, nil for none: the last truthy
	// one that an update carried.
	Doc []byte
	// Source sent the latest update; nil when that came before the broker
	// was started.
	Source *thing.Source
	// Sources counts the sources of the last hour.
	Sources int
	// Updates counts the updates of this Thing, those restored included.
	Updates uint64
}

// Age tells how long ago the latest update was received.
func (e *Entry) Age(now thing.Micros) time.Duration {
	return time.Duration(now-e.Update.Received) * time.Microsecond
}

// New makes an empty directory.
func New(o Options) *Directory {
	if o.MaxSources == 0 {
		o.MaxSources = 8
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Directory{o: o, items: make(map[thing.Name]*item)}
}

// Restore puts a Thing in as history has it: its newest update, the
// documentation URL in force (nil for none), and how many updates it had.
// It copies what it keeps.
func (d *Directory) Restore(u *thing.Update, doc []byte, updates uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.item(u.Name)
	it.set(u)
	it.updates = updates
	if doc != nil {
		it.doc = reuse(it.doc, doc)
	}
	d.head = max(d.head, u.Seq)
}

// Apply takes a batch in, in its order: the last one of a Thing stays.
// position is the publisher's number of the batch; snapshots hold all of a
// batch or nothing of it. It copies what it keeps.
func (d *Directory) Apply(batch []thing.Update, position uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// In a pass of its own, so that the processor waits for the memory of
	// several Things at a time.
	d.found = d.found[:0]
	for i := range batch {
		u := &batch[i]
		it := d.slots.Get(u)
		if it == nil {
			it = d.item(u.Name)
			d.slots.Put(u, it)
		}
		d.found = append(d.found, it)
	}
	for i := range batch {
		u, it := &batch[i], d.found[i]
		d.cut.save(it)
		it.set(u)
		it.updates++
		if wire.Truthy(u.Doc) {
			it.doc = reuse(it.doc, u.Doc)
		}
		if u.Source != nil {
			it.last = u.Source
			it.see(u.Source, u.Received, d.o.MaxSources)
		}
		d.head = max(d.head, u.Seq)
	}
	d.position = position
}

// item gives the Thing of this name, new if need be. d.mu is held.
func (d *Directory) item(name thing.Name) *item {
	it := d.items[name]
	if it == nil {
		it = &item{name: name, cut: d.cuts} // no snapshot under way has it
		d.items[name] = it
		d.fresh = append(d.fresh, it)
	}
	return it
}

func (it *item) set(u *thing.Update) {
	it.data = reuse(it.data, u.Data)
	it.ts, it.received = u.TS, u.Received
	it.seq, it.thingSeq = u.Seq, u.ThingSeq
}

// reuse copies b into buf, unless that holds far more memory than needed.
func reuse(buf, b []byte) []byte {
	if cap(buf) > 1024 && cap(buf) > 4*len(b) {
		buf = nil
	}
	if buf == nil {
		buf = make([]byte, 0, len(b))
	}
	return append(buf[:0], b...)
}

// Len counts the Things.
func (d *Directory) Len() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.items)
}

// Known tells whether there is such a Thing.
func (d *Directory) Known(name thing.Name) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.items[name] != nil
}

// Get gives a copy of the entry of one Thing.
func (d *Directory) Get(name thing.Name) (e Entry, ok bool) {
	now := d.now()
	d.mu.RLock()
	defer d.mu.RUnlock()
	it := d.items[name]
	if it == nil {
		return Entry{}, false
	}
	it.entry(&e, now, nil)
	return e, true
}

func (d *Directory) now() thing.Micros { return thing.MicrosOf(d.o.Now()) }

// entry fills e, copying bytes behind buf, and gives the longer buf.
func (it *item) entry(e *Entry, now thing.Micros, buf []byte) []byte {
	*e = Entry{
		Update: thing.Update{
			Name: it.name, TS: it.ts, Received: it.received,
			Seq: it.seq, ThingSeq: it.thingSeq, Source: it.last,
		},
		Source: it.last, Sources: it.countSources(now), Updates: it.updates,
	}
	buf, e.Update.Data = hold(buf, it.data)
	if it.doc != nil {
		buf, e.Doc = hold(buf, it.doc)
	}
	return buf
}

// hold appends b to buf and gives the copy, too.
func hold(buf, b []byte) (_, copied []byte) {
	lo := len(buf)
	buf = append(buf, b...)
	return buf, buf[lo:len(buf):len(buf)]
}
