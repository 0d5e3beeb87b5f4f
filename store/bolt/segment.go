package bolt

import (
	"encoding/binary"
	"errors"
	"math"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"tbhist/thing"
)

// span bounds the times of some updates.
type span struct {
	minReceived, maxReceived thing.Micros
	minTS, maxTS             float64
}

func emptySpan() span {
	return span{math.MaxInt64, math.MinInt64, math.Inf(1), math.Inf(-1)}
}

func (s *span) add(e *entry) {
	s.minReceived, s.maxReceived = min(s.minReceived, e.received), max(s.maxReceived, e.received)
	s.minTS, s.maxTS = min(s.minTS, e.ts), max(s.maxTS, e.ts)
}

func (s *span) join(o span) {
	s.minReceived, s.maxReceived = min(s.minReceived, o.minReceived), max(s.maxReceived, o.maxReceived)
	s.minTS, s.maxTS = min(s.minTS, o.minTS), max(s.maxTS, o.maxTS)
}

// unit is a stretch of history that is read at once or skipped: a segment,
// a block of one, or a record of the log.
type unit struct {
	first, last uint64 // range of seq
	count       int    // updates in it
	bytes       int64  // stored
	span        span
	segment     *segment // if it is one
}

// segment is a segment's head without its blocks. Immutable, but for what
// the background work knows of its liveness.
type segment struct {
	unit
	// live is how many of its updates were kept when last counted, liveBytes
	// their share of its bytes. They can only have become fewer.
	live      atomic.Int64
	liveBytes atomic.Int64
	// countedAt is DB.evicted at that time.
	countedAt uint64
	// ageDue: no limit by age evicts anything of it before. 0 while unknown.
	ageDue thing.Micros
	// damaged tells that it stands for a range of which nothing could be read.
	damaged bool
	// doubt is what is known of its index (see eachIndexed).
	doubt atomic.Int32
	// table is what its head says of its blocks, where damage took that: nil
	// else.
	table []unit
	// witnesses are updates that were kept then: while one is, the segment is
	// not dead.
	witnesses witnesses
}

// witness is an update of a segment.
type witness struct {
	thingSeq uint64
	slack    uint64 // how many of its Thing were kept up to it, 0 for none
	id       uint32
}

// witnesses are some updates of a segment that will live longest, as far as
// can be told. Of one alone the segment would have to be counted again and
// again.
type witnesses struct {
	of    [16]witness
	least int // the one with the least slack
}

// offer takes a Thing's newest update in the segment in, if it will live
// longer than one that is there. fk is the Thing's first kept one.
func (w *witnesses) offer(id uint32, last, fk uint64) {
	if last < fk || last-fk < w.of[w.least].slack {
		return
	}
	w.of[w.least] = witness{id: id, thingSeq: last, slack: last - fk + 1}
	for i := range w.of {
		if w.of[i].slack < w.of[w.least].slack {
			w.least = i
		}
	}
}

// logRecord is a record of the log, with what would else mean reading it.
type logRecord struct {
	unit
	ids   []uint32
	sizes []uint32
}

const headVersion = 1

func appendSpan(dst []byte, s span) []byte {
	dst = binary.AppendUvarint(dst, zigzag(int64(s.minReceived)))
	dst = binary.AppendUvarint(dst, uint64(s.maxReceived-s.minReceived))
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(s.minTS))
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(s.maxTS))
}

func (f *fields) span() span {
	var s span
	s.minReceived = thing.Micros(f.zz())
	s.maxReceived = s.minReceived + thing.Micros(f.uv())
	s.minTS, s.maxTS = f.f64(), f.f64()
	return s
}

// appendHead encodes a segment's head.
func appendHead(dst []byte, u unit, blocks []unit) []byte {
	dst = append(dst, headVersion)
	dst = binary.AppendUvarint(dst, u.last)
	dst = binary.AppendUvarint(dst, uint64(u.count))
	dst = binary.AppendUvarint(dst, uint64(u.bytes))
	dst = appendSpan(dst, u.span)
	dst = binary.AppendUvarint(dst, uint64(len(blocks)))
	last := u.first - 1
	for _, b := range blocks {
		dst = binary.AppendUvarint(dst, b.first-last)
		dst = binary.AppendUvarint(dst, b.last-b.first)
		dst = binary.AppendUvarint(dst, uint64(b.count))
		dst = binary.AppendUvarint(dst, uint64(b.bytes))
		dst = appendSpan(dst, b.span)
		last = b.last
	}
	return dst
}

var errHead = errors.New("not a head of format 1")

// decodeHead decodes the head of the segment that begins at first. blocks
// is used again.
func decodeHead(raw []byte, first uint64, blocks []unit) (unit, []unit, error) {
	f := fields{b: raw}
	if f.byte() != headVersion {
		return unit{}, nil, errHead
	}
	u := unit{first: first}
	u.last = f.uv()
	u.count = int(f.uv())
	u.bytes = int64(f.uv())
	u.span = f.span()
	n := f.uv()
	if f.bad || n > uint64(len(f.b)) || u.last < first || u.count < 0 || u.bytes < 0 {
		return unit{}, nil, errHead
	}
	blocks = blocks[:0]
	last := first - 1
	for range n {
		var b unit
		b.first = last + f.uv()
		b.last = b.first + f.uv()
		b.count = int(f.uv())
		b.bytes = int64(f.uv())
		b.span = f.span()
		if b.first <= last || b.last < b.first || b.count < 1 || uint64(b.count-1) > b.last-b.first || b.bytes < 0 {
			return unit{}, nil, errHead
		}
		last = b.last
		blocks = append(blocks, b)
	}
	if f.bad || len(f.b) != 0 || last > u.last {
		return unit{}, nil, errHead
	}
	return u, blocks, nil
}

// chunkEntry is where a segment has one Thing's updates: their thing_seqs
// follow one another from first.
type chunkEntry struct {
	id     uint32
	first  uint64
	blocks []uint32 // one per update
	sizes  []uint32
}

func (e *chunkEntry) count() uint64 { return uint64(len(e.blocks)) }
func (e *chunkEntry) last() uint64  { return e.first + e.count() - 1 }

const chunkVersion = 1

func appendChunk(dst []byte, es []chunkEntry) []byte {
	dst = append(dst, chunkVersion)
	dst = binary.AppendUvarint(dst, uint64(len(es)))
	var id uint32
	for i := range es {
		e := &es[i]
		dst = binary.AppendUvarint(dst, uint64(e.id-id))
		id = e.id
		dst = binary.AppendUvarint(dst, e.first)
		dst = binary.AppendUvarint(dst, e.count())
		var no uint32
		for _, b := range e.blocks {
			dst = binary.AppendUvarint(dst, uint64(b-no))
			no = b
		}
		for _, s := range e.sizes {
			dst = binary.AppendUvarint(dst, uint64(s))
		}
	}
	return dst
}

var errChunk = errors.New("not an index chunk of format 1")

// eachInChunk calls yield with each entry of a raw chunk; the entry is used
// again. Entries that want refuses are passed over quickly.
func eachInChunk(raw []byte, e *chunkEntry, want func(id uint32) bool, yield func(*chunkEntry) bool) (more bool, err error) {
	f := fields{b: raw}
	if f.byte() != chunkVersion {
		return false, errChunk
	}
	n := f.uv()
	e.id = 0
	for range n {
		e.id += uint32(f.uv())
		e.first = f.uv()
		c := f.uv()
		if f.bad || c > uint64(len(f.b)) || c == 0 || e.first == 0 || e.first+c < c {
			return false, errChunk
		}
		if want != nil && !want(e.id) {
			for range 2 * c {
				f.uv()
			}
			continue
		}
		e.blocks, e.sizes = e.blocks[:0], e.sizes[:0]
		var no uint32
		for range c {
			no += uint32(f.uv())
			e.blocks = append(e.blocks, no)
		}
		for range c {
			e.sizes = append(e.sizes, uint32(f.uv()))
		}
		if f.bad {
			return false, errChunk
		}
		if !yield(e) {
			return false, nil
		}
	}
	if f.bad || len(f.b) != 0 {
		return false, errChunk
	}
	return true, nil
}

// eachIndexed calls yield with the segment's index entries of the Things
// that sel holds, in the order of id; the entry is used again. A nil sel
// asks for every Thing.
func (r *reader) eachIndexed(tx *bbolt.Tx, seg *segment, sel *selection, e *chunkEntry, yield func(*chunkEntry) bool) error {
	if seg.count == 0 {
		return nil
	}
	if seg.doubt.Load() != indexWhole && r.lacks(tx, seg) {
		return damaged(bucketIndex, seqKey(seg.first), errIndexLacks)
	}
	var err error
	if panicked := guard(func() error {
		err = r.eachChunk(tx, seg, sel, e, yield)
		return nil
	}); panicked != nil {
		return damaged(bucketIndex, seqKey(seg.first), panicked)
	}
	return err
}

func (r *reader) eachChunk(tx *bbolt.Tx, seg *segment, sel *selection, e *chunkEntry, yield func(*chunkEntry) bool) error {
	c := tx.Bucket(bucketIndex).Cursor()
	if sel.few() {
		return r.eachOfFew(c, seg, sel, e, yield)
	}
	var want func(uint32) bool
	if sel != nil {
		want = sel.has
	}
	prefix := seqKey(seg.first)
	for k, v := c.Seek(prefix); inSegment(k, seg.first); k, v = c.Next() {
		key := k[:12:12]
		raw, err := r.readAt(bucketIndex, c, key, kindChunk, v)
		if err != nil {
			return err
		}
		if more, err := eachInChunk(raw, e, want, yield); err != nil {
			return damaged(bucketIndex, key, err)
		} else if !more {
			return nil
		}
	}
	return nil
}

func inSegment(k []byte, first uint64) bool {
	return len(k) == 12+pieceNoBytes && binary.BigEndian.Uint64(k) == first
}

// eachOfFew seeks the chunk of each Thing asked for.
func (r *reader) eachOfFew(c *bbolt.Cursor, seg *segment, sel *selection, e *chunkEntry, yield func(*chunkEntry) bool) error {
	ids := sel.ids
	for len(ids) > 0 {
		// The chunk that may hold ids[0] is the last that begins at or before
		// it: the one before the first that begins behind it.
		var k []byte
		if ids[0] < math.MaxUint32 {
			k, _ = c.Seek(subKey(seg.first, ids[0]+1))
		}
		if k == nil {
			k, _ = c.Last()
		} else {
			k, _ = c.Prev()
		}
		if !inSegment(k, seg.first) {
			// Nothing begins at or before ids[0]: go on at the segment's first chunk.
			k, _ = c.Seek(seqKey(seg.first))
			if !inSegment(k, seg.first) {
				return nil
			}
			begins := binary.BigEndian.Uint32(k[8:])
			if ids[0] >= begins {
				return damaged(bucketIndex, k[:12], errPageOrder) // or it would go on for ever
			}
			// Nothing but its checksum says that it begins there.
			if _, err := r.read(bucketIndex, c, append([]byte(nil), k[:12]...), kindChunk); err != nil {
				return err
			}
			for len(ids) > 0 && ids[0] < begins {
				ids = ids[1:]
			}
			continue
		}
		key := append([]byte(nil), k[:12]...)
		raw, err := r.read(bucketIndex, c, key, kindChunk)
		if err != nil {
			return err
		}
		// Every id below the next chunk's first is decided by this one.
		k, _ = c.Next()
		upTo := uint32(math.MaxUint32)
		if inSegment(k, seg.first) {
			upTo = binary.BigEndian.Uint32(k[8:]) - 1
		}
		more, err := eachInChunk(raw, e, sel.has, yield)
		if err != nil {
			return damaged(bucketIndex, key, err)
		}
		if !more {
			return nil
		}
		if ids[0] > upTo {
			return damaged(bucketIndex, key, errPageOrder) // as above
		}
		for len(ids) > 0 && ids[0] <= upTo {
			ids = ids[1:]
		}
	}
	return nil
}

// loadBlocks reads the block table of a segment.
func (r *reader) loadBlocks(tx *bbolt.Tx, seg *segment, blocks []unit) ([]unit, error) {
	if seg.table != nil {
		return append(blocks[:0], seg.table...), nil
	}
	key := seqKey(seg.first)
	raw, err := r.read(bucketHeads, tx.Bucket(bucketHeads).Cursor(), key, kindHead)
	if err == nil {
		if _, blocks, err = decodeHead(raw, seg.first, blocks); err == nil {
			return blocks, nil
		}
		err = damaged(bucketHeads, key, err)
	}
	if table := r.tableOf(tx, seg.first); len(table) > 0 {
		r.report(err)
		return table, nil
	}
	return nil, err
}

// readBlock decodes block no of a segment; entries point into the reader's
// buffer.
func (r *reader) readBlock(c *bbolt.Cursor, seg *segment, no int, b unit, es []entry) ([]entry, error) {
	key := subKey(seg.first, uint32(no))
	raw, err := r.read(bucketBlocks, c, key, kindBatch)
	if err != nil {
		return nil, err
	}
	return checkedBatch(bucketBlocks, key, raw, b, es)
}

// readLog decodes a record of the log.
func (r *reader) readLog(c *bbolt.Cursor, rec *logRecord, es []entry) ([]entry, error) {
	key := seqKey(rec.first)
	raw, err := r.read(bucketLog, c, key, kindBatch)
	if err != nil {
		return nil, err
	}
	return checkedBatch(bucketLog, key, raw, rec.unit, es)
}

// checkedBatch decodes a batch and holds it against what is known of it:
// bbolt can hand over another record's bytes under good checksums of its
// pages.
func checkedBatch(bucket, key, raw []byte, u unit, es []entry) ([]entry, error) {
	es, err := decodeBatch(raw, es)
	if err != nil {
		return nil, damaged(bucket, key, err)
	}
	if es[0].seq != u.first || es[len(es)-1].seq != u.last || len(es) != u.count {
		return nil, damaged(bucket, key, errors.New("updates do not follow one another"))
	}
	return es, nil
}
