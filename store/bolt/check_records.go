package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"sort"

	"tbhist/thing"
)

// meta is what the small buckets say.
type meta struct {
	head      uint64
	ids, docs uint32 // as many were given
	dead      map[uint32]bool
}

// checkedHead is a segment's head.
type checkedHead struct {
	unit
	blocks []unit
	seen   bool // blocks of it came
}

// checkedThing is what is known of a Thing from its updates.
type checkedThing struct {
	named bool
	// Of the updates that were read: the newest, and the least from which on
	// they follow one another.
	head, from uint64
	latest     uint64 // its seq
	sum        uint64 // of its data, with received and ts
	bytes      int64  // of what is kept
}

// checkedSegment is the segment whose blocks come.
type checkedSegment struct {
	head  *checkedHead
	next  uint32 // block number
	count int
	bytes int64
	// index is where it says which update is, and of what size; what was found
	// there is taken out.
	index map[indexedAt]indexedSize
	last  uint64 // seq
	whole bool   // every block could be read, and the index
}

type indexedAt struct {
	id       uint32
	thingSeq uint64
}

type indexedSize struct{ block, size uint32 }

var checkSeed = maphash.MakeSeed()

// records hands every record of a small bucket on.
func (c *check) records(bucket []byte, handle func(key, raw []byte, size int, err error)) {
	a := assembler{c: c, bucket: string(bucket), handle: handle}
	c.each(bucket, a.feed)
	a.end()
}

// checkSmall checks all but log, index and blocks.
func (c *check) checkSmall() {
	c.checkMeta()
	c.records(bucketLimits, func(key, raw []byte, _ int, err error) {
		if err == nil && string(key) == string(keyLimits) {
			if _, wrong := parseLimits(raw); wrong != nil {
				err = damaged(bucketLimits, key, wrong)
			}
		}
		if err == nil && string(key) == string(keyAged) {
			f := fields{b: raw}
			for f.byte(); len(f.b) > 0; {
				f.uv()
			}
			if f.bad {
				err = damaged(bucketLimits, key, errEnvelope)
			}
		}
		if err != nil {
			c.wrong("limits", err)
		}
	})
	c.things = make([]checkedThing, min(uint64(c.ids), c.pages.meta.high*pageSize/4))
	c.dead = make(map[uint32]bool)
	c.checked(bucketForgotten, func(id uint32, _ []byte) { c.dead[id] = true })
	c.checked(bucketThings, func(id uint32, name []byte) {
		switch {
		case uint64(id) >= uint64(len(c.things)):
			c.problem(fmt.Sprintf("things %08x", id), 0, "an id that was never given")
		case !thing.ValidName(name):
			c.problem(fmt.Sprintf("things %08x", id), 0, "not a namespace: %q", name)
		default:
			c.things[id].named = true
		}
	})
	c.checked(bucketDocs, func(id uint32, _ []byte) {
		if id >= c.docs {
			c.problem(fmt.Sprintf("docs %08x", id), 0, "an id that was never given")
		}
	})
	c.checkHeads()
	c.records(bucketCheckpoint, func(key, raw []byte, _ int, err error) {
		if err == nil && (len(raw) == 0 || raw[0] != checkpointVersion) {
			err = damaged(bucketCheckpoint, key, errCheckpoint)
		}
		if err != nil {
			c.wrong("checkpoint", err)
		}
	})
}

func (c *check) checkMeta() {
	got := make(map[string][]byte)
	c.each(bucketMeta, func(k, v []byte) { got[string(k)] = append([]byte(nil), v...) })
	if epoch := got[string(keyEpoch)]; !validEpoch(epoch) {
		c.problem("meta epoch", 0, "not an epoch: %q", epoch)
	}
	if created := got[string(keyCreated)]; len(created) != 8 {
		c.problem("meta created", 0, "missing")
	}
	if head, ok := openSealed(got[string(keyHead)], 8); ok {
		c.head = binary.BigEndian.Uint64(head)
	} else {
		c.problem("meta head", 0, "checksum does not match")
	}
	if ids, ok := openSealed(got[string(keyIDs)], 8); ok {
		c.ids, c.docs = binary.BigEndian.Uint32(ids), binary.BigEndian.Uint32(ids[4:])
	} else {
		c.problem("meta ids", 0, "checksum does not match")
	}
}

func validEpoch(epoch []byte) bool {
	for _, b := range epoch {
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}
	return len(epoch) == 8
}

// checked checks a bucket of short values by number.
func (c *check) checked(bucket []byte, yield func(id uint32, value []byte)) {
	c.each(bucket, func(k, v []byte) {
		value, ok := openChecked(k, v)
		if len(k) != 4 || !ok {
			c.problem(fmt.Sprintf("%s %x", bucket, k), 0, "checksum does not match")
			return
		}
		c.report.Records++
		yield(binary.BigEndian.Uint32(k), value)
	})
}

func (c *check) checkHeads() {
	next := uint64(1)
	c.records(bucketHeads, func(key, raw []byte, _ int, err error) {
		if err != nil {
			c.wrong("heads", err)
			return
		}
		first := binary.BigEndian.Uint64(key)
		u, blocks, err := decodeHead(raw, first, nil)
		where := fmt.Sprintf("heads %x", key)
		switch {
		case err != nil:
			c.problem(where, first, "%v", err)
			return
		case first > next:
			c.problem(fmt.Sprintf("heads %016x", next), next, "no segment up to seq %d", first-1)
		case first < next:
			c.problem(where, first, "begins before seq %d, where the one before it ends", next)
			return
		}
		next = u.last + 1
		all, count := emptySpan(), 0
		for _, b := range blocks {
			all.join(b.span)
			count += b.count
		}
		if count != u.count || (count > 0 && all != u.span) {
			c.problem(where, first, "its blocks are not as it says")
		}
		if u.count > 0 {
			c.report.Segments++
		}
		c.heads = append(c.heads, checkedHead{unit: u, blocks: blocks})
	})
	c.logged = next - 1
}

// headOf gives the segment that begins at first.
func (c *check) headOf(first uint64) *checkedHead {
	i := sort.Search(len(c.heads), func(i int) bool { return c.heads[i].first >= first })
	if i == len(c.heads) || c.heads[i].first != first {
		return nil
	}
	return &c.heads[i]
}

// chunk checks a record of the index by itself; with its segment's blocks
// beginSegment holds it against them.
func (c *check) chunk(key, raw []byte, _ int, err error) {
	first := binary.BigEndian.Uint64(key)
	where := fmt.Sprintf("index %x", key)
	if err != nil {
		c.wrong(where, err)
		return
	}
	if c.headOf(first) == nil {
		c.problem(where, first, "of no segment")
		return
	}
	var e chunkEntry
	begins, n, last := binary.BigEndian.Uint32(key[8:]), 0, uint32(0)
	if _, err := eachInChunk(raw, &e, nil, func(e *chunkEntry) bool {
		if (n == 0 && e.id != begins) || (n > 0 && e.id <= last) {
			c.problem(where, first, "its Things are out of order")
			return false
		}
		last = e.id
		n++
		return true
	}); err != nil {
		c.problem(where, first, "%v", err)
	} else if n > chunkThings {
		c.problem(where, first, "of %d Things", n)
	}
}

// beginSegment goes to the segment that begins at first, and reads its index.
func (c *check) beginSegment(first uint64) {
	c.endSegment()
	c.seg = checkedSegment{head: c.headOf(first), index: make(map[indexedAt]indexedSize), whole: true}
	h := c.seg.head
	if h == nil {
		return
	}
	h.seen = true
	c.seg.last = first - 1
	for _, t := range c.trees {
		if t.name != string(bucketIndex) {
			continue
		}
		a := assembler{c: c, bucket: t.name, handle: c.indexed, again: true}
		feed := func(es []element) {
			for i := range es {
				if inSegment(es[i].key, first) {
					a.feed(es[i].key, es[i].value)
				}
			}
		}
		if t.root == 0 {
			es, _ := page(t.inline).elements(nil)
			feed(es)
		} else {
			w := treeWalk{leaves: true, from: seqKey(first), to: seqKey(first + 1)}
			w.leaf = func(_, _ []byte, _ uint64, es []element) { feed(es) }
			w.bad = func(_, _ []byte, _ uint64, _ int, _ error) { c.seg.whole = false }
			c.look.walk(&w, t.root)
		}
		a.end()
	}
}
