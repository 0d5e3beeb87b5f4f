package bolt

// locate finds updates by Thing id and thing_seq, evicted ones too while
// their bytes are there. known may settle one by the unit it lies in alone,
// and returns whether it did; found gets those it did not settle. What is
// neither settled nor found stays in want.
func (s *snapshot) locate(want map[uint32]uint64, known func(id uint32, u *unit) bool, found func(*entry)) error {
	settle := func(es []entry) {
		s.entries = es
		for i := range es {
			if n, ok := want[es[i].id]; ok && n == es[i].thingSeq {
				delete(want, es[i].id)
				found(&es[i])
			}
		}
	}
	sel := selectionOf(want) // what is settled may stay in it for a while
	blocks := s.tx.Bucket(bucketBlocks).Cursor()
	for _, seg := range s.segs {
		if len(want) == 0 {
			return nil
		}
		if seg.count == 0 {
			continue
		}
		if err := s.stopped(); err != nil {
			return err
		}
		if len(want) < len(sel.ids)/2 {
			sel = selectionOf(want)
		}
		if err := s.locateIn(seg, sel, want, known, func(no int, b unit) {
			es, err := s.readBlock(blocks, seg, no, b, s.entries)
			if err != nil {
				s.damage(err)
				return
			}
			settle(es)
		}); err != nil {
			s.damage(err)
		}
	}
	c := s.tx.Bucket(bucketLog).Cursor()
	for _, rec := range s.records {
		if len(want) == 0 {
			return nil
		}
		if !mentionsWanted(rec, want) {
			continue
		}
		if err := s.stopped(); err != nil {
			return err
		}
		es, err := s.readLog(c, rec, s.entries)
		if err != nil {
			s.damage(err)
			continue
		}
		settle(es)
	}
	return nil
}

func mentionsWanted(rec *logRecord, want map[uint32]uint64) bool {
	for _, id := range rec.ids {
		if _, ok := want[id]; ok {
			return true
		}
	}
	return false
}

func selectionOf(want map[uint32]uint64) *selection {
	ids := make([]uint32, 0, len(want))
	for id := range want {
		ids = append(ids, id)
	}
	return newSelection(ids)
}

// eachSized is eachIndexed for a single Thing; where damage took the index, what
// it would say comes from the blocks.
func (s *snapshot) eachSized(seg *segment, sel *selection, e *chunkEntry, yield func(*chunkEntry) bool) error {
	err := s.eachIndexed(s.tx, seg, sel, e, yield)
	if err == nil {
		return nil
	}
	s.damage(err)
	table, err := s.loadBlocks(s.tx, seg, nil)
	if err != nil {
		return err
	}
	*e = chunkEntry{id: sel.ids[0]}
	c := s.tx.Bucket(bucketBlocks).Cursor()
	for no := range table {
		es, err := s.readBlock(c, seg, no, table[no], s.entries)
		if err != nil {
			s.damage(err)
			continue
		}
		s.entries = es
		for i := range es {
			switch x := &es[i]; {
			case x.id != e.id:
			case len(e.sizes) == 0 || x.thingSeq <= e.last() || x.thingSeq-e.last() > maxMissing:
				e.first, e.blocks, e.sizes = x.thingSeq, []uint32{uint32(no)}, []uint32{x.size(s.docs)}
			default:
				for x.thingSeq > e.last()+1 {
					e.blocks, e.sizes = append(e.blocks, uint32(no)), append(e.sizes, 0)
				}
				e.blocks, e.sizes = append(e.blocks, uint32(no)), append(e.sizes, x.size(s.docs))
			}
		}
	}
	if len(e.sizes) > 0 {
		yield(e)
	}
	return nil
}

// locateIn reads the blocks of one segment in which something wanted lies.
func (s *snapshot) locateIn(seg *segment, sel *selection, want map[uint32]uint64, known func(uint32, *unit) bool, read func(no int, b unit)) error {
	at := make(map[uint32]int) // block number by Thing id
	var e chunkEntry
	err := s.eachIndexed(s.tx, seg, sel, &e, func(e *chunkEntry) bool {
		if n, ok := want[e.id]; ok && n >= e.first && n <= e.last() {
			at[e.id] = int(e.blocks[n-e.first])
		}
		return true
	})
	if err == nil && len(at) == 0 {
		return nil
	}
	all := err != nil // without an index it may be in any
	if all {
		s.damage(err)
	}
	table, err := s.loadBlocks(s.tx, seg, nil)
	if err != nil {
		return err
	}
	needed := make([]bool, len(table))
	for no := range needed {
		needed[no] = all
	}
	for id, no := range at {
		switch {
		case no >= len(table):
		case known != nil && known(id, &table[no]):
			delete(want, id)
		default:
			needed[no] = true
		}
	}
	for no, b := range table {
		if needed[no] {
			read(no, b)
		}
	}
	return nil
}
