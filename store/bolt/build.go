package bolt

import (
	"go.etcd.io/bbolt"
)

// builder makes segments, one after another, of updates that come in the
// order of seq. Its buffers are used again.
type builder struct {
	codecs *codecs
	docs   [][]byte
	kept   firstKept
	out    built

	block   []entry // not yet encoded
	arena   []byte  // their bytes
	raw     []byte
	indexed []indexed // of every update
	entries []chunkEntry

	// What finish needs: indexed in the order of id, where each id begins in
	// it, and the arrays that entries point into.
	byID          []indexed
	begins        []uint32
	blocks, sizes []uint32
}

// indexed is where one update went.
type indexed struct {
	thingSeq uint64
	block    uint32
	size     uint32
	id       uint32
}

// built is a segment as it will be written. It lives until the builder
// begins another.
type built struct {
	unit
	blocks []unit
	pieces []keyed // head, index and blocks
	stored []byte  // their envelopes
	// evicted is DB.evicted before it was asked what is kept, and witnesses are
	// of what was (segment has more).
	evicted   uint64
	witnesses witnesses
}

// keyed is a record by its place in built.stored.
type keyed struct {
	bucket, key []byte
	from, to    int
}

// builderKeeps is how many bytes of buffers a builder keeps for its next
// segment: enough unless updates are large.
const builderKeeps = 4 << 20

// begin begins a segment of the range first to last, of updates that kept
// has. evicted is DB.evicted from before kept was asked for.
func (b *builder) begin(c *codecs, docs [][]byte, kept firstKept, evicted, first, last uint64) {
	b.codecs, b.docs, b.kept = c, docs, kept
	b.out = built{
		unit:   unit{first: first, last: last, span: emptySpan()},
		blocks: b.out.blocks[:0], pieces: b.out.pieces[:0], stored: b.out.stored[:0], evicted: evicted,
	}
	if cap(b.out.stored) > builderKeeps {
		b.out.stored = nil
	}
	b.block, b.arena, b.indexed, b.entries = b.block[:0], b.arena[:0], b.indexed[:0], b.entries[:0]
}

// addKept takes in what is kept of a batch that r has just read; the rest is
// added to gone.
func (b *builder) addKept(r *reader, es []entry, gone *losses) {
	kept := 0
	for i := range es {
		if b.kept.has(&es[i]) {
			kept++
		}
	}
	if kept == len(es) && b.addWhole(r, es) {
		return
	}
	for i := range es {
		if e := &es[i]; b.kept.has(e) {
			b.add(e)
		} else {
			gone.add(e)
		}
	}
}

// add takes in the next update. Its bytes are copied.
func (b *builder) add(e *entry) {
	at := len(b.arena)
	b.arena = append(b.arena, e.data...)
	b.arena = append(b.arena, e.inline...)
	copied := *e
	copied.data = b.arena[at : at+len(e.data) : at+len(e.data)]
	if e.doc == docInline {
		copied.inline = b.arena[at+len(e.data):]
	}
	b.block = append(b.block, copied)
	b.index(e)
	if len(b.block) == blockUpdates || len(b.arena) >= blockRaw {
		b.endBlock()
	}
}

func (b *builder) index(e *entry) {
	b.indexed = append(b.indexed, indexed{
		thingSeq: e.thingSeq, block: uint32(len(b.out.blocks)), size: e.size(b.docs), id: e.id,
	})
}

// addWhole takes in the updates of a batch that r has just read, all of them,
// as a block of their own if they make a good one: it tells whether they did.
// They need not be encoded anew then.
func (b *builder) addWhole(r *reader, es []entry) bool {
	// A block of few would spoil what reading a block gives.
	if n := len(b.block); n > 0 && n < blockUpdates/2 {
		return false
	}
	if n := len(es); n > blockUpdates || (n < blockUpdates/2 && len(r.raw) < blockRaw/2) {
		return false
	}
	b.endBlock()
	for i := range es {
		b.index(&es[i])
	}
	b.putBlock(es, r.raw, r)
	return true
}

func (b *builder) endBlock() {
	if len(b.block) == 0 {
		return
	}
	b.raw = appendBatch(b.raw[:0], b.block)
	b.putBlock(b.block, b.raw, nil)
	b.block, b.arena = b.block[:0], b.arena[:0]
}

// putBlock puts one block, as it was read by r if that is not nil.
func (b *builder) putBlock(es []entry, raw []byte, r *reader) {
	u := unit{first: es[0].seq, last: es[len(es)-1].seq, count: len(es), span: emptySpan()}
	for i := range es {
		u.span.add(&es[i])
	}
	key := subKey(b.out.first, uint32(len(b.out.blocks)))
	from := len(b.out.stored)
	if r != nil && r.codec == codecZstd {
		b.out.stored = envelopeAgain(b.out.stored, key, kindBatch, codecZstd, r.stored, len(raw))
	} else {
		b.out.stored = b.codecs.envelope(b.out.stored, key, kindBatch, codecZstd, raw)
	}
	u.bytes = b.piece(bucketBlocks, key, from)
	b.out.blocks = append(b.out.blocks, u)
	b.out.span.join(u.span)
	b.out.count += u.count
}

// piece takes in the record that stands in stored from from on, and gives what
// it takes of the file.
func (b *builder) piece(bucket, key []byte, from int) int64 {
	b.out.pieces = append(b.out.pieces, keyed{bucket, key, from, len(b.out.stored)})
	n := storedBytes(len(b.out.stored)-from, len(key))
	b.out.bytes += n
	return n
}

// maxMissing bounds how many updates of a Thing that damage took between two
// others the index makes up for. They stand in it with size 0, in the block
// of what follows them, since it says of each Thing only where it begins and
// how many there are. A longer gap is none, but made up.
const maxMissing = 1 << 20

// finish encodes index and head.
func (b *builder) finish() *built {
	b.endBlock()
	if b.out.count == 0 {
		b.out.span = span{}
	}
	b.sortByID()
	room := len(b.byID)
	for i := 1; i < len(b.byID); i++ {
		x, was := &b.byID[i], &b.byID[i-1]
		if missing := x.thingSeq - was.thingSeq - 1; x.id == was.id && missing <= maxMissing {
			room += int(missing)
		}
	}
	// Both arrays have room for all, so that the entries' slices lie in them
	// one behind another.
	if cap(b.blocks) < room {
		b.blocks, b.sizes = make([]uint32, 0, room), make([]uint32, 0, room)
	}
	blocks, sizes := b.blocks[:0], b.sizes[:0]
	for i := range b.byID {
		x := &b.byID[i]
		if n := len(b.entries); n == 0 || b.entries[n-1].id != x.id {
			b.endEntry()
			b.entries = append(b.entries, chunkEntry{
				id: x.id, first: x.thingSeq, blocks: blocks[len(blocks):], sizes: sizes[len(sizes):],
			})
		}
		e := &b.entries[len(b.entries)-1]
		missing := x.thingSeq - e.first - uint64(len(e.sizes))
		if missing > maxMissing {
			e.first, e.blocks, e.sizes, missing = x.thingSeq, blocks[len(blocks):], sizes[len(sizes):], 0
		}
		for range missing {
			blocks, sizes = append(blocks, x.block), append(sizes, 0)
		}
		blocks, sizes = append(blocks, x.block), append(sizes, x.size)
		n := len(e.sizes) + int(missing) + 1
		e.blocks, e.sizes = e.blocks[:n], e.sizes[:n]
	}
	b.endEntry()
	if len(b.entries) > 0 {
		b.putChunk()
	}
	key, from := seqKey(b.out.first), len(b.out.stored)
	b.raw = appendHead(b.raw[:0], b.out.unit, b.out.blocks)
	b.out.stored = b.codecs.envelope(b.out.stored, key, kindHead, codecZstd, b.raw)
	b.out.pieces = append(b.out.pieces, keyed{bucketHeads, key, from, len(b.out.stored)})
	if cap(b.raw) > builderKeeps {
		b.raw = nil
	}
	if cap(b.arena) > builderKeeps {
		b.arena = nil
	}
	return &b.out
}

// sortByID brings what was indexed into the order of id, and within one into
// that in which it came.
func (b *builder) sortByID() {
	var ids uint32
	for i := range b.indexed {
		ids = max(ids, b.indexed[i].id+1)
	}
	if uint32(cap(b.begins)) < ids+1 {
		b.begins = make([]uint32, ids+ids/4+1)
	}
	begins := b.begins[:ids+1]
	clear(begins)
	for i := range b.indexed {
		begins[b.indexed[i].id+1]++
	}
	for id := range ids {
		begins[id+1] += begins[id]
	}
	if cap(b.byID) < len(b.indexed) {
		b.byID = make([]indexed, len(b.indexed)+len(b.indexed)/8)
	}
	b.byID = b.byID[:len(b.indexed)]
	for i := range b.indexed {
		x := &b.indexed[i]
		b.byID[begins[x.id]] = *x
		begins[x.id]++
	}
}

// endEntry looks at the entry that is whole now. A full chunk is put.
func (b *builder) endEntry() {
	if len(b.entries) == 0 {
		return
	}
	e := &b.entries[len(b.entries)-1]
	b.out.witnesses.offer(e.id, e.last(), b.kept[e.id])
	if len(b.entries) == chunkThings {
		b.putChunk()
	}
}

func (b *builder) putChunk() {
	key, from := subKey(b.out.first, b.entries[0].id), len(b.out.stored)
	b.raw = appendChunk(b.raw[:0], b.entries)
	b.out.stored = b.codecs.envelope(b.out.stored, key, kindChunk, codecZstd, b.raw)
	b.piece(bucketIndex, key, from)
	b.entries = b.entries[:0]
}

// put writes the segment.
func (s *built) put(tx *bbolt.Tx) error {
	for _, p := range s.pieces {
		if err := putPieces(tx.Bucket(p.bucket), p.key, s.stored[p.from:p.to]); err != nil {
			return err
		}
	}
	return nil
}

func (s *built) segment() *segment {
	seg := &segment{unit: s.unit, countedAt: s.evicted, witnesses: s.witnesses}
	seg.live.Store(int64(s.count))
	seg.liveBytes.Store(s.bytes)
	return seg
}

// deleteSegments deletes the segments whose ranges lie in first to last.
func deleteSegments(tx *bbolt.Tx, first, last uint64) error {
	for _, name := range [][]byte{bucketHeads, bucketIndex, bucketBlocks} {
		if err := deleteRecords(tx.Bucket(name), seqKey(first), seqKey(last+1)); err != nil {
			return err
		}
	}
	return nil
}
