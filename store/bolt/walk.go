package bolt

import "sort"

// units walks what is behind seq after in the order of seq, one stretch at
// a time: enter says whether to go into a unit, and more whether to go on
// behind it. A segment that is entered is walked block by block, and each
// block is asked for in its turn. yield gets the updates of entered blocks
// and log records; it returns false to end the walk.
func (s *snapshot) units(after uint64, ask func(*unit) (enter, more bool), yield func(*entry) bool) error {
	blocks := s.tx.Bucket(bucketBlocks).Cursor()
	from := sort.Search(len(s.segs), func(i int) bool { return s.segs[i].last > after })
	for _, seg := range s.segs[from:] {
		if seg.count == 0 {
			continue
		}
		u := seg.unit
		u.segment = seg
		enter, more := ask(&u)
		if !more {
			return nil
		}
		if !enter {
			continue
		}
		table, err := s.loadBlocks(s.tx, seg, nil)
		if err != nil {
			s.damage(err)
			continue
		}
		for no := range table {
			b := &table[no]
			if b.last <= after {
				continue
			}
			enter, more := ask(b)
			if !more {
				return nil
			}
			if !enter {
				continue
			}
			es, err := s.readBlock(blocks, seg, no, *b, s.entries)
			if err != nil {
				s.damage(err)
				continue
			}
			s.entries = es
			if !each(es, after, yield) {
				return nil
			}
		}
	}
	c := s.tx.Bucket(bucketLog).Cursor()
	from = sort.Search(len(s.records), func(i int) bool { return s.records[i].last > after })
	for _, rec := range s.records[from:] {
		enter, more := ask(&rec.unit)
		if !more {
			return nil
		}
		if !enter {
			continue
		}
		es, err := s.readLog(c, rec, s.entries)
		if err != nil {
			s.damage(err)
			continue
		}
		s.entries = es
		if !each(es, after, yield) {
			return nil
		}
	}
	return nil
}

func each(es []entry, after uint64, yield func(*entry) bool) bool {
	for i := range es {
		if es[i].seq > after && !yield(&es[i]) {
			return false
		}
	}
	return true
}
