package directory

import (
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// SnapshotOptions say how a snapshot is to look.
type SnapshotOptions struct {
	// Epoch is the name of the history.
	Epoch string
	// Now is the broker's clock.
	Now thing.Micros
	// Expire, unless 0, hides entries with Now − ts > Expire.
	Expire time.Duration
	// MaxPart is how many bytes a message has at most; 1 MiB. An entry that
	// is longer makes a message of its own.
	MaxPart int
	// Head is the least that Seq is: the head of the history at start, when
	// that may be above the newest update of every Thing. Not the store's
	// present head, which may be ahead of this directory.
	Head uint64
}

// Snapshot is the directory as of one position.
type Snapshot struct {
	// Frames are one or more messages, each complete by itself.
	Frames [][]byte
	// Seq is the highest seq that the snapshot stands for, Position the
	// last batch that it holds.
	Seq, Position uint64
	// Bytes is the size of all frames, Entries the number of entries.
	Bytes, Entries int
}

// cut is a snapshot being made. The items are copied a few at a time; a
// writer that comes to an item before its turn saves it as it was.
type cut struct {
	number uint64
	saved  map[*item]saved // an entry goes as soon as it is used
}

type saved struct {
	ts    float64
	entry []byte // as in a snapshot
}

// save keeps an item for the snapshot under way, if there is one and it
// has not come to this item yet. The directory's mu is held for writing.
func (c *cut) save(it *item) {
	if c == nil || it.cut == c.number {
		return
	}
	it.cut = c.number
	c.saved[it] = saved{it.ts, it.appendTo(nil)}
}

// appendTo appends the item as an entry of a snapshot.
func (it *item) appendTo(dst []byte) []byte {
	return wire.AppendSnapshotEntry(dst, &wire.Entry{
		Update: thing.Update{
			Name: it.name, Data: it.data, TS: it.ts, Received: it.received,
			Seq: it.seq, ThingSeq: it.thingSeq,
		},
		Doc: it.doc,
	})
}

// Snapshot makes a snapshot as of the moment it begins. Writers and readers
// go on meanwhile: the lock is held for some hundred entries at a time.
func (d *Directory) Snapshot(o SnapshotOptions) *Snapshot {
	d.snapMu.Lock()
	defer d.snapMu.Unlock()

	d.settle()
	d.mu.Lock()
	d.cuts++
	c := &cut{number: d.cuts, saved: make(map[*item]saved)}
	d.cut = c
	items := d.index()
	s := &Snapshot{Seq: max(d.head, o.Head), Position: d.position}
	d.mu.Unlock()

	p := newParts(o)
	for len(items) > 0 {
		items = d.copyChunk(items, c, p)
	}

	d.mu.Lock()
	d.cut = nil
	d.mu.Unlock()

	s.Frames = p.finish(s.Seq, o.Epoch)
	for _, f := range s.Frames {
		s.Bytes += len(f)
	}
	s.Entries = p.entries
	return s
}

// copyChunk copies some items and gives the others.
func (d *Directory) copyChunk(items []*item, c *cut, p *parts) []*item {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(items), chunkItems) && bytes < chunkBytes {
		it := items[n]
		n++
		if it.gone {
			continue
		}
		if it.cut != c.number {
			it.cut = c.number
			if !p.expired(it.ts) {
				bytes += p.add(it.appendTo)
			}
			continue
		}
		was := c.saved[it]
		delete(c.saved, it)
		if !p.expired(was.ts) {
			bytes += p.add(func(dst []byte) []byte { return append(dst, was.entry...) })
		}
	}
	return items[n:]
}

// parts gathers entries into messages that lack their tails.
type parts struct {
	o       SnapshotOptions
	room    int // for head and entries of a message
	done    [][]byte
	now     []byte // the message being filled
	filled  int    // entries in it
	entries int
}

const tailBytes = len(`}, "seq": , "epoch": "", "part": , "parts": }`) + 3*20

func newParts(o SnapshotOptions) *parts {
	if o.MaxPart == 0 {
		o.MaxPart = 1 << 20
	}
	p := &parts{o: o, room: o.MaxPart - tailBytes - len(o.Epoch)}
	p.now = wire.AppendSnapshotHead(nil, o.Now)
	return p
}

func (p *parts) expired(ts float64) bool {
	return p.o.Expire > 0 && p.o.Now.Seconds()-ts > p.o.Expire.Seconds()
}

// add appends an entry and gives its size. If that is too much for the
// message, the entry begins the next.
func (p *parts) add(appendTo func([]byte) []byte) int {
	before := len(p.now)
	if p.filled > 0 {
		p.now = append(p.now, ", "...)
	}
	lo := len(p.now)
	p.now = appendTo(p.now)
	size := len(p.now) - lo
	if len(p.now) > p.room && p.filled > 0 {
		next := wire.AppendSnapshotHead(make([]byte, 0, p.o.MaxPart), p.o.Now)
		next = append(next, p.now[lo:]...)
		p.done = append(p.done, p.now[:before])
		p.now, p.filled = next, 0
	}
	p.filled++
	p.entries++
	return size
}

func (p *parts) finish(seq uint64, epoch string) [][]byte {
	all := append(p.done, p.now)
	for i := range all {
		all[i] = wire.AppendSnapshotTail(all[i], seq, epoch, i+1, len(all))
	}
	return all
}
