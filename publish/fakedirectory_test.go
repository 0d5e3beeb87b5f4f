package publish

import (
	"bytes"
	"slices"
	"sync"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// fakeDirectory is the latest of each Thing.
type fakeDirectory struct {
	mu       sync.Mutex
	latest   map[thing.Name]thing.Update
	position uint64
	head     uint64
	made     int // snapshots
	// before and after, unless nil, are called at the begin and the end of
	// each, without mu.
	before, after func()
}

func newFakeDirectory() *fakeDirectory {
	return &fakeDirectory{latest: map[thing.Name]thing.Update{}}
}

func (d *fakeDirectory) apply(batch []thing.Update, position uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range batch {
		u.Data = bytes.Clone(u.Data)
		d.latest[u.Name] = u
		d.head = max(d.head, u.Seq)
	}
	d.position = position
}

func (d *fakeDirectory) names() []thing.Name {
	var names []thing.Name
	for n := range d.latest {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (d *fakeDirectory) snapshot(o SnapshotOptions) *Snapshot {
	d.mu.Lock()
	before, after := d.before, d.after
	d.mu.Unlock()
	if before != nil {
		before()
	}
	s := d.make(o)
	if after != nil {
		after()
	}
	return s
}

// during sets what happens while snapshots are made.
func (d *fakeDirectory) during(before, after func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before, d.after = before, after
}

func (d *fakeDirectory) make(o SnapshotOptions) *Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made++
	s := &Snapshot{Seq: max(d.head, o.Head), Position: d.position}
	names := d.names()
	var parts [][]byte
	for len(names) > 0 || len(parts) == 0 {
		f := wire.AppendSnapshotHead(nil, o.Now)
		n := 0
		for n < len(names) && len(f) < o.MaxPart {
			if n > 0 {
				f = append(f, ", "...)
			}
			f = wire.AppendSnapshotEntry(f, &wire.Entry{Update: d.latest[names[n]]})
			n++
		}
		names = names[n:]
		parts = append(parts, f)
	}
	for i, f := range parts {
		f = wire.AppendSnapshotTail(f, s.Seq, o.Epoch, i+1, len(parts))
		s.Frames, s.Bytes = append(s.Frames, f), s.Bytes+len(f)
	}
	return s
}

func (d *fakeDirectory) walk(after *thing.Name, under thing.Name, tree bool, yield func(*Entry) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.names() {
		if after != nil && n <= *after || !inTree(n, under, tree) {
			continue
		}
		if !yield(&Entry{Update: d.latest[n], Sources: 1}) {
			return
		}
	}
}

func (d *fakeDirectory) snapshotsMade() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made
}
