package bolt

import (
	"slices"

	"go.etcd.io/bbolt"
)

// builder makes a segment of updates that come in the order of seq.
type builder struct {
	codecs *codecs
	docs   [][]byte
	out    built

	block   []entry // not yet encoded
	arena   []byte  // their bytes
	raw     []byte
	indexed []indexed // of every update
	entries []chunkEntry
}

// indexed is where one update went.
type indexed struct {
	thingSeq uint64
	block    uint32
	size     uint32
	id       uint32
}

// built is a segment as it will be written.
type built struct {
	unit
	head   []byte
	blocks []unit
	pieces []keyed // index and blocks
}

type keyed struct {
	bucket, key, envelope []byte
}

// newBuilder begins a segment of the range first to last.
func newBuilder(c *codecs, docs [][]byte, first, last uint64) *builder {
	return &builder{codecs: c, docs: docs, out: built{unit: unit{first: first, last: last, span: emptySpan()}}}
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
	b.indexed = append(b.indexed, indexed{
		thingSeq: e.thingSeq, block: uint32(len(b.out.blocks)), size: e.size(b.docs), id: e.id,
	})
	if len(b.block) == blockUpdates || len(b.arena) >= blockRaw {
		b.endBlock()
	}
}

func (b *builder) endBlock() {
	if len(b.block) == 0 {
		return
	}
	u := unit{first: b.block[0].seq, last: b.block[len(b.block)-1].seq, count: len(b.block), span: emptySpan()}
	for i := range b.block {
		u.span.add(&b.block[i])
	}
	b.raw = appendBatch(b.raw[:0], b.block)
	key := subKey(b.out.first, uint32(len(b.out.blocks)))
	u.bytes = b.piece(bucketBlocks, key, kindBatch, b.raw)
	b.out.blocks = append(b.out.blocks, u)
	b.out.span.join(u.span)
	b.out.count += u.count
	b.block, b.arena = b.block[:0], b.arena[:0]
}

func (b *builder) piece(bucket, key []byte, kind byte, raw []byte) int64 {
	envelope := b.codecs.envelope(nil, key, kind, codecZstd, raw)
	n := storedBytes(len(envelope), len(key))
	b.out.bytes += n
	b.out.pieces = append(b.out.pieces, keyed{bucket, key, envelope})
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
	// By id, and within one in the order they came.
	order := make([]uint64, len(b.indexed))
	for i := range b.indexed {
		order[i] = uint64(b.indexed[i].id)<<32 | uint64(i)
	}
	slices.Sort(order)
	room := len(order)
	for i := 1; i < len(order); i++ {
		x, was := &b.indexed[uint32(order[i])], &b.indexed[uint32(order[i-1])]
		if missing := x.thingSeq - was.thingSeq - 1; x.id == was.id && missing <= maxMissing {
			room += int(missing)
		}
	}
	blocks, sizes := make([]uint32, 0, room), make([]uint32, 0, room)
	for _, at := range order {
		x := &b.indexed[uint32(at)]
		if n := len(b.entries); n == 0 || b.entries[n-1].id != x.id {
			b.endChunk()
			b.entries = append(b.entries, chunkEntry{
				id: x.id, first: x.thingSeq, blocks: blocks[len(blocks):], sizes: sizes[len(sizes):],
			})
		}
		// Both arrays have room for all, so that the entries' slices lie in
		// them one behind another.
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
	if len(b.entries) > 0 {
		b.putChunk()
	}
	raw := appendHead(nil, b.out.unit, b.out.blocks)
	b.out.head = b.codecs.envelope(nil, seqKey(b.out.first), kindHead, codecZstd, raw)
	return &b.out
}

func (b *builder) endChunk() {
	if len(b.entries) == chunkThings {
		b.putChunk()
	}
}

func (b *builder) putChunk() {
	b.raw = appendChunk(b.raw[:0], b.entries)
	b.piece(bucketIndex, subKey(b.out.first, b.entries[0].id), kindChunk, b.raw)
	b.entries = b.entries[:0]
}

// put writes the segment.
func (s *built) put(tx *bbolt.Tx) error {
	if err := putPieces(tx.Bucket(bucketHeads), seqKey(s.first), s.head); err != nil {
		return err
	}
	for _, p := range s.pieces {
		if err := putPieces(tx.Bucket(p.bucket), p.key, p.envelope); err != nil {
			return err
		}
	}
	return nil
}

func (s *built) segment() *segment {
	seg := &segment{unit: s.unit}
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
