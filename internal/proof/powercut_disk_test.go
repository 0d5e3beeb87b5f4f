//go:build proof

package proof

import (
	"math/rand/v2"
	"os"
	"slices"
)

// sector is what a disk writes as a whole.
const sector = 512

// disk is what is on the disk of one file: for certain, and perhaps.
type disk struct {
	durable []byte // as long as the file is for certain
	// pending are writes and sizes that no sync has promised, in their order.
	pending []*pendingCall
	size    int64 // of the file, as the process sees it
	sync    int   // how many of pending stood when the sync under way began
	// modes are those that the file may have: the first for certain, unless
	// another was given since; modeSync is how many stood when the sync began.
	modes    []os.FileMode
	modeSync int
}

// pendingCall is a write that may be on disk or not, each sector by itself, or
// a size that the file may have.
type pendingCall struct {
	off  int64
	data []byte // nil: a size
	// gone are sectors of which something newer is on disk for certain.
	gone map[int64]bool
	// lost: a sync failed. The system may take it for written from then on, so
	// that no later sync promises it.
	lost bool
}

// apply brings the disk along with one call.
func (d *disk) apply(c *call) {
	switch c.kind {
	case callWrite, callAppend:
		off := c.off
		if c.kind == callAppend {
			off = d.size
		}
		d.pending = append(d.pending, &pendingCall{off: off, data: c.data})
		d.size = max(d.size, off+int64(len(c.data)))
	case callGrow:
		if c.off > d.size {
			d.pending = append(d.pending, &pendingCall{off: c.off})
			d.size = c.off
		}
	case callSize:
		d.pending = append(d.pending, &pendingCall{off: c.off})
		d.size = c.off
	case callMode:
		d.modes = append(d.modes, os.FileMode(c.off))
	case callSync:
		d.sync, d.modeSync = len(d.pending), len(d.modes)
	case callSynced:
		if c.ok {
			d.promise(d.sync)
			if c.whole {
				d.modes = d.modes[d.modeSync-1:]
			}
			return
		}
		for _, p := range d.pending {
			p.lost = p.data != nil
		}
	}
}

// promise puts the first n of pending on disk, but for what is lost.
func (d *disk) promise(n int) {
	var still []*pendingCall
	for i, p := range d.pending {
		if i >= n || p.lost {
			still = append(still, p)
			continue
		}
		if p.data == nil {
			d.durable = resized(d.durable, p.off)
			continue
		}
		if end := p.off + int64(len(p.data)); end > int64(len(d.durable)) {
			d.durable = resized(d.durable, end)
		}
		copy(d.durable[p.off:], p.data)
		for _, older := range still {
			older.overwritten(p)
		}
	}
	d.pending = still
}

// overwritten notes that newer, of the same file, is on disk.
func (p *pendingCall) overwritten(newer *pendingCall) {
	from, to := max(p.off, newer.off), min(p.off+int64(len(p.data)), newer.off+int64(len(newer.data)))
	for at := from; at < to; at += sector {
		if p.gone == nil {
			p.gone = make(map[int64]bool)
		}
		p.gone[at] = true
	}
}

func resized(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// The ways in which a power cut chooses what is left.
const (
	leaveNothing = iota
	leaveAll
	leaveSome    // whole writes
	leaveSectors // of each write some sectors
	leaveAllButOne
	leaveOne
	leaveMeta // of the writes only those to bbolt's two meta pages
	leaveWays
)

// cut gives what a power cut leaves of the file.
func (d *disk) cut(rnd *rand.Rand) (image []byte) {
	way, one := rnd.IntN(leaveWays), rnd.IntN(max(1, len(d.pending)))
	image = slices.Clone(d.durable)
	for i, p := range d.pending {
		if p.data == nil {
			if way == leaveAll || way != leaveNothing && rnd.IntN(2) == 0 {
				image = resized(image, p.off)
			}
			continue
		}
		whole := rnd.IntN(2) == 0
		for at := p.off; at < p.off+int64(len(p.data)); at += sector {
			var left bool
			switch way {
			case leaveAll:
				left = true
			case leaveSome:
				left = whole
			case leaveSectors:
				left = rnd.IntN(2) == 0
			case leaveAllButOne:
				left = i != one
			case leaveOne:
				left = i == one
			case leaveMeta:
				left = p.off < 2*4096
			}
			if !left || p.gone[at] {
				continue
			}
			part := p.data[at-p.off:]
			part = part[:min(sector, len(part))]
			if end := at + int64(len(part)); end > int64(len(image)) {
				image = resized(image, end)
			}
			copy(image[at:], part)
		}
	}
	return image
}
