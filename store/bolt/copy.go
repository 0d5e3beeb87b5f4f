package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"sort"
	"sync"

	"go.etcd.io/bbolt"

	"tbhist/store"
)

// sink takes in a copy, pair by pair: buckets in no order, nor their keys.
type sink interface {
	put(bucket, key, value []byte) error
}

// copying makes a copy of a history as it is when it begins: what is kept then,
// up to the head of then, in segments as full as can be, and a checkpoint at
// that head. What is evicted is not in it, so that nothing of it can come back.
type copying struct {
	db  *DB
	ctx context.Context
	to  sink
	// pin, unless nil, holds back what is not copied yet: the history goes on.
	pin *pin
	// segmentBytes is how large segments become.
	segmentBytes int64
	codecs       *codecs
	builder      builder
	building     bool    // a segment was begun
	built        []built // those that are done, and not handed on yet

	// How the history was.
	head, logStart uint64
	kept           firstKept
	docs           [][]byte
	rings          []*ring
	evicted        uint64
	things         int
	updates        uint64
	pairs          []pair // of buckets that have no records but limits
	parts          parts  // of the checkpoint

	// at is the seq up to which everything was read, builtTo that up to which
	// it is in segments that are done.
	at, builtTo uint64
	gone        losses // evicted, and there all the same
	// unsure has what bounds the lost updates of rings of which that was left
	// open by a crash: what was known, and, once it was read, the first kept one.
	unsure map[uint32]lost
	// copied counts the updates, done the bytes of segments and log that were
	// read, of total.
	copied      uint64
	done, total int64
	// expected is about how many bytes the copy has.
	expected int64
}

// pair is a key and its value.
type pair struct{ bucket, key, value []byte }

// newCopying begins a copy: what it takes of memory and of the log is taken
// when it returns. pinned tells that the history goes on meanwhile; end lets
// go of what is held back for it.
func newCopying(ctx context.Context, db *DB, segmentBytes int64, pinned bool) (*copying, error) {
	codecs, err := newCodecs()
	if err != nil {
		return nil, err
	}
	c := &copying{ctx: ctx, db: db, segmentBytes: segmentBytes, codecs: codecs}
	// No ring moves while all are looked at, or what is evicted between two
	// looks would be in the one and not in the other.
	db.evicting.Lock()
	moving := sync.OnceFunc(db.evicting.Unlock)
	defer moving()
	err = db.viewAt(func(s *snapshot) {
		c.look(s)
		if pinned {
			c.pin = &pin{upTo: c.logStart, kept: c.kept}
			db.pin.Store(c.pin)
		}
	}, func(s *snapshot) error {
		moving()
		s.stop = func() error { return db.isClosing(ctx) }
		return c.begin(s)
	})
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// end lets go of what the copy holds.
func (c *copying) end() {
	c.unpin()
	c.codecs.close()
}

// unpin lets go of what is held back for it. It may be called at any time.
func (c *copying) unpin() {
	if c.pin != nil && c.db.pin.CompareAndSwap(c.pin, nil) {
		c.db.nudge()
	}
}

// look takes in what memory says. Under evicting and mu.
func (c *copying) look(s *snapshot) {
	db := c.db
	c.head, c.logStart = s.head, s.logStart
	c.docs, c.rings, c.kept = s.docs, s.rings, s.firstKept()
	for id, r := range s.rings {
		switch {
		case r == nil:
		case r.gone():
			c.kept[id] = math.MaxUint64
		case r.unsure != 0 && c.kept[id] > 1:
			if c.unsure == nil {
				c.unsure = make(map[uint32]lost)
			}
			c.unsure[r.id] = r.lost
		}
	}
	c.things, c.updates, c.evicted = len(db.names), db.kept.Load(), db.evicted.Load()
	c.parts.take(db, s.rings)
	for _, seg := range s.segs {
		c.total += seg.bytes
		c.expected += seg.liveBytes.Load()
	}
	for _, rec := range s.records {
		c.total += rec.bytes
		c.expected += rec.bytes
	}
}

// begin reads what is small, and makes segments of the log: it is in memory
// when this returns, and may go.
func (c *copying) begin(s *snapshot) error {
	c.parts.squeeze()
	if err := c.readPairs(s.tx); err != nil {
		return err
	}
	for _, p := range c.pairs {
		c.expected += int64(len(p.key) + len(p.value))
	}
	for _, r := range c.rings {
		if r != nil {
			c.expected += int64(len(r.name))
		}
	}
	for _, doc := range c.docs {
		c.expected += int64(len(doc))
	}
	c.expected += c.parts.bytes
	c.at, c.builtTo = c.logStart, c.logStart
	cur := s.tx.Bucket(bucketLog).Cursor()
	for _, rec := range s.records {
		if err := s.stopped(); err != nil {
			return err
		}
		es, err := safely(s, func() ([]entry, error) { return s.readLog(cur, rec, s.entries) })
		if err == nil {
			c.add(s.reader, es, c.head)
		}
		c.done += rec.bytes
	}
	c.finishAt(c.head)
	c.at, c.builtTo = 0, 0
	return nil
}

// safely reads updates; what is damaged is set aside, and bbolt's panics are
// damage.
func safely(s *snapshot, read func() ([]entry, error)) (es []entry, err error) {
	err = guard(func() error {
		es, err = read()
		return err
	})
	if err != nil {
		s.damage(err)
	} else if es != nil {
		s.entries = es
	}
	return es, err
}

// add takes in a batch that r has just read, but for what was taken in before
// and what comes behind upTo. The segment ends behind it if that is full.
func (c *copying) add(r *reader, es []entry, upTo uint64) {
	from := sort.Search(len(es), func(i int) bool { return es[i].seq > c.at })
	to := sort.Search(len(es), func(i int) bool { return es[i].seq > upTo })
	if from >= to {
		return
	}
	b := &c.builder
	c.beginSegment()
	c.bound(es[from:to])
	if from == 0 && to == len(es) {
		b.addKept(r, es, &c.gone)
	} else {
		for i := from; i < to; i++ {
			if e := &es[i]; c.kept.has(e) {
				b.add(e)
			} else {
				c.gone.add(e)
			}
		}
	}
	c.at = es[to-1].seq
	if b.out.count+len(b.block) >= segmentTarget || b.out.bytes+int64(len(b.arena)) >= c.segmentBytes {
		c.finishAt(c.at)
	}
}

// bound notes the first kept updates of rings of which it is not known what
// they lost: that lies before them.
func (c *copying) bound(es []entry) {
	if c.unsure == nil {
		return
	}
	for i := range es {
		if e := &es[i]; c.kept.has(e) && e.thingSeq == c.kept[e.id] {
			if l, ok := c.unsure[e.id]; ok {
				c.unsure[e.id] = l.join(lost{e.thingSeq - 1, e.seq - 1, e.received, e.ts})
			}
		}
	}
}

// lostOf bounds what the copy lacks of a Thing; was is what its history knew.
func (c *copying) lostOf(id uint32, was lost) lost {
	if l, ok := c.unsure[id]; ok && l.thingSeq+1 == c.kept[id] {
		was = l
	}
	if at, ok := c.gone.at[id]; ok {
		was = was.join(c.gone.lost[at])
	}
	return was
}

// finishAt ends the segment that is being built, whose range goes up to last.
func (c *copying) finishAt(last uint64) {
	if last <= c.builtTo {
		return
	}
	c.beginSegment()
	b := &c.builder
	b.out.last = last
	out := b.finish()
	c.copied += uint64(out.count)
	c.built = append(c.built, *out)
	out.pieces, out.stored = nil, nil // they are c.built's now
	c.building, c.builtTo, c.at = false, last, last
}

func (c *copying) beginSegment() {
	if !c.building {
		c.building = true
		c.builder.begin(c.codecs, c.docs, c.kept, c.evicted, c.builtTo+1, 0)
	}
}

// run hands the copy on to a sink, with nothing of bbolt's open while that
// takes it. step, unless nil, is called after each segment that was read.
func (c *copying) run(to sink, step func()) error {
	c.to = to
	for _, p := range c.pairs {
		if err := to.put(p.bucket, p.key, p.value); err != nil {
			return err
		}
	}
	c.pairs = nil
	if err := c.putNames(); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	for c.at < c.logStart {
		if err := c.db.view(c.nextSegment); err != nil {
			return err
		}
		if c.pin != nil {
			c.pin.copied.Store(c.at)
		}
		if err := c.flush(); err != nil {
			return err
		}
		if step != nil {
			step()
		}
		if c.pin != nil && c.pin.taken.Load() {
			return ErrBackupOverrun
		}
	}
	return c.parts.put(c)
}

// nextSegment reads the next segment that is not copied yet. It may not be one
// of those that were there at first: one whose rewriting had begun then, or
// any once the pin is released.
func (c *copying) nextSegment(s *snapshot) error {
	s.stop = func() error { return c.db.isClosing(c.ctx) }
	i := sort.Search(len(s.segs), func(i int) bool { return s.segs[i].last > c.at })
	last := c.logStart
	if i < len(s.segs) && s.segs[i].first <= c.logStart {
		seg := s.segs[i]
		last = min(last, seg.last)
		var blocks []blockAt
		if _, err := safely(s, func() ([]entry, error) {
			blocks = s.blocksOf(seg, nil)
			return nil, nil
		}); err == nil {
			for _, b := range blocks {
				if b.last <= c.at || b.first > last {
					continue
				}
				if err := s.stopped(); err != nil {
					return err
				}
				if es, err := safely(s, func() ([]entry, error) { return s.blockAt(b), nil }); err == nil {
					c.add(s.reader, es, last)
				}
			}
		}
		c.done += seg.bytes
	}
	if c.at = last; last == c.logStart {
		c.finishAt(last)
	}
	return c.stopped()
}

func (c *copying) stopped() error { return c.db.isClosing(c.ctx) }

// flush hands on the segments that are done.
func (c *copying) flush() error {
	for i := range c.built {
		s := &c.built[i]
		for _, p := range s.pieces {
			if err := putRecord(c.to, p.bucket, p.key, s.stored[p.from:p.to]); err != nil {
				return err
			}
		}
		*s = built{}
	}
	c.built = c.built[:0]
	return c.stopped()
}

// putRecord hands on a record, in its pieces.
func putRecord(to sink, bucket, key, envelope []byte) error {
	return eachPiece(key, envelope, func(key, piece []byte) error { return to.put(bucket, key, piece) })
}

// readPairs reads the buckets that are small and have not to be made anew.
func (c *copying) readPairs(tx *bbolt.Tx) error {
	keep := func(bucket, k, v []byte) {
		c.pairs = append(c.pairs, pair{bucket, clone(k), clone(v)})
	}
	for _, name := range [][]byte{bucketMeta, bucketLimits, bucketForgotten} {
		b := tx.Bucket(name)
		if b == nil {
			continue
		}
		if err := b.ForEach(func(k, v []byte) error {
			switch {
			case v == nil, bytes.Equal(k, keyHead), bytes.Equal(k, keyLost):
			case bytes.Equal(name, bucketForgotten) && !c.dead(k): // forgotten since
			default:
				keep(name, k, v)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	keep(bucketMeta, keyHead, sealed(binary.BigEndian.AppendUint64(nil, c.head)))
	return nil
}

// dead tells whether the id of a key was that of no Thing when the copy began.
func (c *copying) dead(key []byte) bool {
	if len(key) != 4 {
		return false
	}
	id := binary.BigEndian.Uint32(key)
	return uint64(id) < uint64(len(c.kept)) && c.kept[id] == math.MaxUint64
}

// putNames hands on names and documentation URLs. Ids stay what they are.
func (c *copying) putNames() error {
	for id, r := range c.rings {
		if r == nil {
			continue
		}
		key := idKey(uint32(id))
		if err := c.to.put(bucketThings, key, checkedValue(key, []byte(r.name))); err != nil {
			return err
		}
	}
	for id, doc := range c.docs {
		if doc == nil {
			continue // damaged
		}
		key := idKey(uint32(id))
		if err := c.to.put(bucketDocs, key, checkedValue(key, doc)); err != nil {
			return err
		}
	}
	return c.stopped()
}

// state is what the copy ought to tell of itself.
func (c *copying) state() store.State {
	return store.State{Epoch: c.db.epoch, Head: c.head, Things: c.things, Updates: c.updates}
}
