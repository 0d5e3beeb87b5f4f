package bolt

import (
	"context"
	"sort"

	"tbhist/store"
	"tbhist/thing"
)

// reading is one page on its way.
type reading struct {
	*snapshot
	ctx   context.Context
	db    *DB
	q     store.Query
	pos   *position
	sel   *selection
	upTo  uint64
	yield func(*thing.Update) bool
	page  store.Page
	// at is the seq up to which everything was looked at.
	at    uint64
	ended bool // by yield, Limit or the budget
	u     thing.Update
}

// Read implements store.Store.
func (db *DB) Read(ctx context.Context, q store.Query, yield func(*thing.Update) bool) (store.Page, error) {
	if err := db.isClosing(ctx); err != nil {
		return store.Page{}, err
	}
	pos, err := db.position(q)
	if err != nil {
		return store.Page{}, err
	}
	var page store.Page
	err = db.viewWith(q.Last > 0 && pos.first, func(s *snapshot) error {
		r := &reading{snapshot: s, ctx: ctx, db: db, q: q, pos: pos, yield: yield, at: pos.after}
		s.stop = func() error { return db.isClosing(ctx) }
		r.sel = s.choose(q, pos)
		r.upTo = s.head
		if q.UpTo != 0 {
			r.upTo = min(r.upTo, q.UpTo)
		}
		err := r.run()
		page = r.page
		return err
	})
	return page, err
}

// choose gives the Things a query asks for; nil for all.
func (s *snapshot) choose(q store.Query, pos *position) *selection {
	all := q.Name == "" && q.Tree && q.Match == nil
	if all && q.Last == 0 {
		return nil
	}
	var ids []uint32
	for id, r := range s.rings {
		if r == nil || (r.name != q.Name && (!q.Tree || !r.name.Under(q.Name))) {
			continue
		}
		if !r.concerns(&q, pos) {
			all = false
			continue
		}
		if q.Match == nil || q.Match(r.name) {
			ids = append(ids, uint32(id))
		}
	}
	if all {
		return nil
	}
	return newSelection(ids)
}

func (r *reading) run() error {
	r.page.Head = r.head
	evicted := r.evictedOf(r.sel)
	if r.pos.first && r.q.Last > 0 {
		r.pos.upTo = r.head
		if err := r.bounds(); err != nil {
			return err
		}
	}
	if r.pos.upTo != 0 {
		r.upTo = min(r.upTo, r.pos.upTo)
	}
	if err := r.countEvicted(evicted); err != nil {
		return err
	}
	// What bounds and counting read is not the page's: while rings turn, each
	// page counts again, and would end before it had begun.
	r.bytes = 0
	if err := r.walk(); err != nil {
		return err
	}
	if !r.ended {
		r.at = max(r.at, r.upTo)
	}
	// Evicted while this page was read: it may have been looked for in vain.
	if more := r.evictedOf(r.sel); more > evicted {
		r.page.Evicted += more - evicted
		r.page.EvictedExact = false
	}
	if r.bySpan() {
		r.page.Evicted = r.at - min(r.at, r.pos.after) - r.page.Count
		r.page.EvictedExact = true
	}
	if r.page.Evicted == 0 {
		r.page.EvictedExact = true
	}
	if r.ended && !r.page.Limited {
		r.pos.after, r.pos.evicted = r.at, evicted
		r.page.Next = r.pos.append(r.db.epoch)
	}
	return nil
}

// bySpan tells whether the question is the whole tree bounded by seq alone:
// what is not there in a page's span was evicted.
func (r *reading) bySpan() bool {
	return r.sel == nil && r.q.Since == nil && r.q.Until == nil && r.q.Last == 0
}

// countEvicted counts what was evicted before this page: on the first all
// of it, later what went since the page before. evicted is what the Things
// asked for have evicted by now.
func (r *reading) countEvicted(evicted uint64) error {
	since := evicted - min(evicted, r.pos.evicted)
	if r.bySpan() || evicted == 0 || (!r.pos.first && since == 0) || r.upTo <= r.at {
		return nil
	}
	n, exact, err := r.evictedIn()
	if err != nil {
		return err
	}
	if !r.pos.first {
		n, exact = min(n, since), false
	}
	r.page.Evicted, r.page.EvictedExact = min(n, r.upTo-r.at), exact
	return nil
}

// evictedOf adds up what the Things asked for have evicted, ever.
func (s *snapshot) evictedOf(sel *selection) (n uint64) {
	if sel == nil {
		for _, r := range s.rings {
			if r != nil {
				n += r.fk.Load() - 1
			}
		}
		return n
	}
	for _, id := range sel.ids {
		n += s.rings[id].fk.Load() - 1
	}
	return n
}

// walk reads segments and log from the position on.
func (r *reading) walk() error {
	if r.sel != nil && len(r.sel.ids) == 0 {
		return nil
	}
	var table []unit
	var wanted []bool
	start := r.at
	blocks := r.tx.Bucket(bucketBlocks).Cursor()
	from := sort.Search(len(r.segs), func(i int) bool { return r.segs[i].last > r.at })
	for _, seg := range r.segs[from:] {
		if r.ended || seg.first > r.upTo {
			return nil
		}
		if seg.count == 0 || !r.overlaps(&seg.unit) {
			r.passed(&seg.unit)
			continue
		}
		// Indexes count too, and a page that they end is behind them: the next
		// may not begin with them again.
		if err := r.check(); err != nil || r.ended {
			return err
		}
		var err error
		if r.sel.few() {
			if wanted, err = r.liveBlocks(seg, r.sel, wanted); err != nil {
				r.damage(err)
			}
			if len(wanted) == 0 {
				r.passed(&seg.unit)
				continue
			}
		}
		if table, err = r.loadBlocks(r.tx, seg, table); err != nil {
			r.damage(err)
			r.passed(&seg.unit)
			continue
		}
		for no := range table {
			b := &table[no]
			if b.last <= r.at || !r.overlaps(b) || (r.sel.few() && (no >= len(wanted) || !wanted[no])) {
				continue
			}
			if b.first > r.upTo {
				return nil
			}
			if err := r.check(); err != nil {
				return err
			}
			if r.ended && r.at > start {
				return nil
			}
			r.ended = false // one block at least
			es, err := r.readBlock(blocks, seg, no, *b, r.entries)
			if err != nil {
				r.damage(err)
				continue
			}
			r.entries = es
			if r.take(es); r.ended {
				return nil
			}
		}
		r.passed(&seg.unit)
	}
	return r.walkLog()
}

// passed notes that everything up to the end of a unit was looked at.
func (r *reading) passed(u *unit) { r.at = max(r.at, min(u.last, r.upTo)) }

func (r *reading) walkLog() error {
	c := r.tx.Bucket(bucketLog).Cursor()
	from := sort.Search(len(r.records), func(i int) bool { return r.records[i].last > r.at })
	for _, rec := range r.records[from:] {
		if r.ended || rec.first > r.upTo {
			return nil
		}
		if !r.overlaps(&rec.unit) || !r.mentions(rec) {
			r.passed(&rec.unit)
			continue
		}
		if err := r.check(); err != nil || r.ended {
			return err
		}
		es, err := r.readLog(c, rec, r.entries)
		if err != nil {
			r.damage(err)
			continue
		}
		r.entries = es
		r.take(es)
	}
	return nil
}

// check ends a page whose budget is spent, and a reading that nobody waits
// for.
func (r *reading) check() error {
	if err := r.db.isClosing(r.ctx); err != nil {
		return err
	}
	r.ended = r.bytes > r.db.o.readBudget
	return nil
}

func (s *snapshot) mentionsAny(rec *logRecord, sel *selection) bool {
	if sel == nil {
		return true
	}
	for _, id := range rec.ids {
		if sel.has(id) {
			return true
		}
	}
	return false
}

func (r *reading) mentions(rec *logRecord) bool { return r.mentionsAny(rec, r.sel) }

// overlaps tells whether a unit's times reach into those asked for.
func (r *reading) overlaps(u *unit) bool {
	if r.q.Since == nil && r.q.Until == nil {
		return true
	}
	from, to := u.span.minReceived, u.span.maxReceived
	if r.q.By == store.ByTS {
		from, to = thing.MicrosOfSeconds(u.span.minTS), thing.MicrosOfSeconds(u.span.maxTS)
	}
	return (r.q.Since == nil || to >= *r.q.Since) && (r.q.Until == nil || from < *r.q.Until)
}

// liveBlocks marks the blocks of a segment that hold something kept of some
// Things; an empty answer: none does.
func (s *snapshot) liveBlocks(seg *segment, sel *selection, wanted []bool) ([]bool, error) {
	return s.blocksWith(seg, sel, wanted, func(thingSeq, fk uint64) bool { return thingSeq >= fk })
}

// deadBlocks marks those that hold something evicted.
func (s *snapshot) deadBlocks(seg *segment, sel *selection, wanted []bool) ([]bool, error) {
	return s.blocksWith(seg, sel, wanted, func(thingSeq, fk uint64) bool { return thingSeq < fk })
}

func (s *snapshot) blocksWith(seg *segment, sel *selection, wanted []bool, want func(thingSeq, fk uint64) bool) ([]bool, error) {
	wanted = wanted[:0]
	var e chunkEntry
	err := s.eachIndexed(s.tx, seg, sel, &e, func(e *chunkEntry) bool {
		r := s.ring(e.id)
		if r == nil {
			return true
		}
		fk := r.fk.Load()
		for i, no := range e.blocks {
			if !want(e.first+uint64(i), fk) || uint64(no) >= uint64(seg.count) {
				continue // there are no more blocks than updates
			}
			for int(no) >= len(wanted) {
				wanted = append(wanted, false)
			}
			wanted[no] = true
		}
		return true
	})
	if err != nil {
		// Without an index any block may.
		wanted = wanted[:0]
		for range seg.count {
			wanted = append(wanted, true)
		}
	}
	return wanted, err
}

// take hands on what of some entries is asked for.
func (r *reading) take(es []entry) {
	for i := range es {
		e := &es[i]
		if e.seq <= r.at {
			continue
		}
		if e.seq > r.upTo {
			return
		}
		if r.wants(e) {
			r.u = e.update(r.rings[e.id].name, r.docs)
			if !r.yield(&r.u) {
				r.ended = true
				return
			}
			if r.page.Count == 0 {
				r.page.First = e.seq
			}
			r.page.Count++
			r.page.Last = e.seq
			r.pos.given++
		}
		r.at = e.seq
		if r.q.Limit > 0 && r.pos.given >= r.q.Limit {
			r.ended, r.page.Limited = true, true
			return
		}
	}
}

func (r *reading) wants(e *entry) bool {
	ring := r.ring(e.id)
	if ring == nil || !r.sel.has(e.id) || e.thingSeq < ring.fk.Load() || !r.inTime(e) {
		return false
	}
	return r.q.Last == 0 || e.thingSeq >= r.pos.bound(e.id)
}

func (r *reading) inTime(e *entry) bool {
	if r.q.Since == nil && r.q.Until == nil {
		return true
	}
	at := e.received
	if r.q.By == store.ByTS {
		at = thing.MicrosOfSeconds(e.ts)
	}
	return (r.q.Since == nil || at >= *r.q.Since) && (r.q.Until == nil || at < *r.q.Until)
}
