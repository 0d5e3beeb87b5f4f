package bolt

import "slices"

// selection is a set of Thing ids; nil is the set of all.
type selection struct {
	ids  []uint32 // ascending
	bits []uint64 // by id
}

func newSelection(ids []uint32) *selection {
	slices.Sort(ids)
	s := &selection{ids: ids}
	if len(ids) > 0 {
		s.bits = make([]uint64, ids[len(ids)-1]/64+1)
	}
	for _, id := range ids {
		s.bits[id/64] |= 1 << (id % 64)
	}
	return s
}

func (s *selection) has(id uint32) bool {
	if s == nil {
		return true
	}
	w := int(id / 64)
	return w < len(s.bits) && s.bits[w]&(1<<(id%64)) != 0
}

// few tells whether seeking each id beats reading everything of a segment.
func (s *selection) few() bool { return s != nil && len(s.ids) <= 48 }
