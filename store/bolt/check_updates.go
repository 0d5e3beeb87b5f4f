package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"

	"tbhist/thing"
)

// indexed takes in a chunk of the index of the segment at hand.
func (c *check) indexed(_, raw []byte, size int, err error) {
	if err != nil {
		c.seg.whole = false
		return
	}
	c.seg.bytes += storedBytes(size, 12)
	var e chunkEntry
	if _, err := eachInChunk(raw, &e, nil, func(e *chunkEntry) bool {
		for i := range e.blocks {
			c.seg.index[indexedAt{e.id, e.first + uint64(i)}] = indexedSize{e.blocks[i], e.sizes[i]}
		}
		return true
	}); err != nil {
		c.seg.whole = false
	}
}

// block checks a block, and what its segment says of it.
func (c *check) block(key, raw []byte, size int, err error) {
	if c.ctx.Err() != nil {
		return
	}
	first, no := binary.BigEndian.Uint64(key), binary.BigEndian.Uint32(key[8:])
	if h := c.seg.head; h == nil || h.first != first {
		c.beginSegment(first)
	}
	where := fmt.Sprintf("blocks %x", key)
	h := c.seg.head
	if h == nil {
		c.problem(where, first, "of no segment")
		return
	}
	if no != c.seg.next {
		c.problem(where, first, "block %d of its segment is missing", c.seg.next)
		c.seg.whole = false
	}
	c.seg.next = no + 1
	if err != nil {
		c.seg.whole = false
		c.wrong(where, err)
		return
	}
	es, err := decodeBatch(raw, c.r.entries)
	if err != nil {
		c.seg.whole = false
		c.problem(where, first, "%v", err)
		return
	}
	c.r.entries = es
	if uint64(no) >= uint64(len(h.blocks)) {
		c.problem(where, first, "its head has no such block")
		return
	}
	b := unit{first: es[0].seq, last: es[len(es)-1].seq, count: len(es), bytes: storedBytes(size, 12), span: emptySpan()}
	c.seg.bytes += b.bytes
	for i := range es {
		e := &es[i]
		if e.seq <= c.seg.last || e.seq > h.last {
			c.problem(where, e.seq, "updates do not follow one another")
			c.seg.whole = false
			return
		}
		c.seg.last = e.seq
		b.span.add(e)
		c.update(where, e)
		at := indexedAt{e.id, e.thingSeq}
		if said, ok := c.seg.index[at]; c.seg.whole && (!ok || said.block != no || said.size != e.size(c.docTable())) {
			c.problem(where, e.seq, "the index does not have update %d of Thing %08x as it is", e.thingSeq, e.id)
		}
		delete(c.seg.index, at)
	}
	c.seg.count += len(es)
	if said := h.blocks[no]; b != said {
		c.problem(where, b.first, "its head does not have it as it is")
	}
}

// endSegment checks what is known behind the last block of a segment.
func (c *check) endSegment() {
	h := c.seg.head
	if h == nil || c.ctx.Err() != nil {
		return
	}
	where := fmt.Sprintf("heads %x", seqKey(h.first))
	if int(c.seg.next) != len(h.blocks) {
		c.problem(where, h.first, "block %d of its segment is missing", c.seg.next)
		c.seg.whole = false
	}
	if !c.seg.whole {
		return
	}
	if c.seg.count != h.count || c.seg.bytes != h.bytes {
		c.problem(where, h.first, "%d updates in %d bytes, where it says %d in %d", c.seg.count, c.seg.bytes, h.count, h.bytes)
	}
	for at, said := range c.seg.index {
		// What damage took from between others stands in the index with size 0.
		if said.size != 0 {
			c.problem(where, h.first, "its index has update %d of Thing %08x, and no block has", at.thingSeq, at.id)
			return
		}
	}
}

// record checks a record of the log.
func (c *check) record(key, raw []byte, _ int, err error) {
	if c.ctx.Err() != nil {
		return
	}
	first := binary.BigEndian.Uint64(key)
	where := fmt.Sprintf("log %x", key)
	var es []entry
	if err == nil {
		es, err = decodeBatch(raw, c.r.entries)
	}
	if err != nil {
		c.wrong(where, err)
		return
	}
	c.r.entries = es
	switch {
	case es[0].seq != first || es[len(es)-1].seq-first != uint64(len(es)-1):
		c.problem(where, first, "updates do not follow one another")
		return
	case first <= c.logged:
		c.problem(where, first, "begins before seq %d, where the one before it ends", c.logged+1)
		return
	case first > c.logged+1:
		c.problem(fmt.Sprintf("log %x", seqKey(c.logged+1)), c.logged+1, "nothing up to seq %d", first-1)
	}
	c.logged = es[len(es)-1].seq
	for i := range es {
		c.update(where, &es[i])
	}
}

func (c *check) docTable() [][]byte {
	if c.db == nil {
		return nil
	}
	return c.db.docs.byID
}

// update takes in one update, in the order of seq.
func (c *check) update(where string, e *entry) {
	if c.dead[e.id] {
		return
	}
	if uint64(e.id) >= uint64(len(c.things)) {
		c.problem(where, e.seq, "of Thing %08x, an id that was never given", e.id)
		return
	}
	if e.doc >= docIDs && e.doc-docIDs >= c.docs {
		c.problem(where, e.seq, "of documentation URL %08x, an id that was never given", e.doc-docIDs)
	}
	t := &c.things[e.id]
	if e.thingSeq <= t.head {
		c.problem(where, e.seq, "update %d of Thing %08x comes behind update %d", e.thingSeq, e.id, t.head)
		return
	}
	if e.thingSeq != t.head+1 {
		t.from = e.thingSeq
	} else if t.from == 0 {
		t.from = 1
	}
	t.head, t.latest = e.thingSeq, e.seq
	t.sum = sumOf(e.received, e.ts, e.data)
	if r := c.ringOf(e.id); r != nil && e.thingSeq >= r.fk.Load() {
		t.bytes += int64(e.size(c.docTable()))
	}
}

func sumOf(received thing.Micros, ts float64, data []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(checkSeed)
	var times [16]byte
	binary.BigEndian.PutUint64(times[:], uint64(received))
	binary.BigEndian.PutUint64(times[8:], math.Float64bits(ts))
	_, _ = h.Write(times[:])
	_, _ = h.Write(data)
	return h.Sum64()
}

func (c *check) ringOf(id uint32) *ring {
	if c.db == nil || uint64(id) >= uint64(len(c.db.rings)) {
		return nil
	}
	return c.db.rings[id]
}

// checkThings holds what updates say of each Thing against what a start makes
// of checkpoint and limits.
func (c *check) checkThings() {
	if c.ctx.Err() != nil {
		return
	}
	for i := range c.heads {
		if h := &c.heads[i]; h.count > 0 && !h.seen {
			c.problem(fmt.Sprintf("heads %x", seqKey(h.first)), h.first, "its blocks are missing")
		}
	}
	if c.logged != c.head {
		c.problem("meta head", 0, "seq %d, where updates go up to %d", c.head, c.logged)
	}
	if c.db == nil {
		return
	}
	for id := range c.things {
		t, r := &c.things[id], c.ringOf(uint32(id))
		where := fmt.Sprintf("things %08x", id)
		if r == nil || r.gone() {
			if t.head != 0 {
				c.problem(where, t.latest, "it has updates, and no name")
			} else if t.named && !c.dead[uint32(id)] {
				c.problem(where, 0, "it has no update")
			}
			continue
		}
		fk := r.fk.Load()
		switch {
		case !t.named:
			c.problem(where, t.latest, "it has updates, and no name")
		case r.head != t.head:
			c.problem(where, r.latest.seq, "update %d is its newest, where updates go up to %d", r.head, t.head)
		case fk < t.from:
			c.problem(where, t.latest, "updates between %d and %d of %q are missing", fk, t.from, r.name)
		case r.latest.seq != t.latest || sumOf(r.latest.received, r.latest.ts, r.latest.data) != t.sum:
			c.problem(where, t.latest, "the checkpoint does not have the newest update of %q as it is", r.name)
		case r.limit.Count > 0 && r.head-fk+1 > uint64(r.limit.Count):
			c.problem(where, t.latest, "%d updates of %q are kept, where the limit is %d", r.head-fk+1, r.name, r.limit.Count)
		case r.limit.Bytes > 0 && t.bytes > r.limit.Bytes && fk < r.head:
			c.problem(where, t.latest, "%d bytes of %q are kept, where the limit is %d", t.bytes, r.name, r.limit.Bytes)
		case r.limit.Bytes > 0 && t.bytes != r.bytes:
			c.problem(where, t.latest, "%d bytes of %q are kept, and %d are counted", t.bytes, r.name, r.bytes)
		}
	}
}
