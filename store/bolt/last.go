package bolt

import "slices"

// bounds works out Query.Last at the first page: for each Thing the
// thing_seq from which on its updates are among the newest so many that
// pass the filters. Things that are not in pos.from have fewer.
func (r *reading) bounds() error {
	r.pos.from = make(map[uint32]uint64)
	k := r.q.Last
	if r.q.Since == nil && r.q.Until == nil && r.q.UpTo == 0 {
		// The newest are the newest, whatever is cut off below.
		r.eachSelected(func(id uint32) {
			if head := r.heads[id]; head > k {
				r.pos.from[id] = head - k + 1
			}
		})
		return nil
	}
	counts := make(map[uint32]uint64)
	return r.backward(r.sel, func(u *unit) bool {
		return u.last > r.pos.after && u.first <= r.upTo && r.overlaps(u)
	}, func(e *entry) bool {
		if e.seq <= r.pos.after {
			return false
		}
		if e.seq <= r.upTo && e.thingSeq >= r.rings[e.id].fk.Load() && r.inTime(e) {
			if counts[e.id]++; counts[e.id] == k {
				r.pos.from[e.id] = e.thingSeq
			}
		}
		return true
	})
}

func (r *reading) eachSelected(yield func(id uint32)) {
	if r.sel != nil {
		for _, id := range r.sel.ids {
			yield(id)
		}
		return
	}
	for id, ring := range r.rings {
		if ring != nil {
			yield(uint32(id))
		}
	}
}

// backward walks what there is of some Things from the newest update to
// the oldest. enter chooses units; yield returns false to end the walk. What
// is evicted is not left out.
func (s *snapshot) backward(sel *selection, enter func(*unit) bool, yield func(*entry) bool) error {
	reversed := func(es []entry) bool {
		s.entries = es
		for _, e := range slices.Backward(es) {
			if sel.has(e.id) && s.ring(e.id) != nil && !yield(&e) {
				return false
			}
		}
		return true
	}
	c := s.tx.Bucket(bucketLog).Cursor()
	for _, rec := range slices.Backward(s.records) {
		if !enter(&rec.unit) || !s.mentionsAny(rec, sel) {
			continue
		}
		if err := s.stopped(); err != nil {
			return err
		}
		es, err := s.readLog(c, rec, s.entries)
		if err != nil {
			s.damage(err)
		} else if !reversed(es) {
			return nil
		}
	}
	blocks := s.tx.Bucket(bucketBlocks).Cursor()
	var wanted []bool
	for _, seg := range slices.Backward(s.segs) {
		if seg.count == 0 || !enter(&seg.unit) {
			continue
		}
		if err := s.stopped(); err != nil {
			return err
		}
		var err error
		if sel != nil {
			if wanted, err = s.liveBlocks(seg, sel, wanted); err != nil {
				s.damage(err)
			}
		}
		table, err := s.loadBlocks(s.tx, seg, nil)
		if err != nil {
			s.damage(err)
			continue
		}
		for no, b := range slices.Backward(table) {
			if !enter(&b) || (sel != nil && (no >= len(wanted) || !wanted[no])) {
				continue
			}
			if err := s.stopped(); err != nil {
				return err
			}
			es, err := s.readBlock(blocks, seg, no, b, s.entries)
			if err != nil {
				s.damage(err)
			} else if !reversed(es) {
				return nil
			}
		}
	}
	return nil
}
