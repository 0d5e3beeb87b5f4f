package bolt

import (
	"errors"

	"go.etcd.io/bbolt"
)

// What is known of a segment's index: where pages were set aside it may lack
// Things, which nothing in it tells.
const (
	indexWhole int32 = iota
	indexDoubted
	indexLacking
)

var errIndexLacks = errors.New("parts of the segment's index are missing")

// doubtIndexes has every index looked at before it is gone by.
func doubtIndexes(segs []*segment) {
	for _, seg := range segs {
		seg.doubt.CompareAndSwap(indexWhole, indexDoubted)
	}
}

// lacks tells whether the index of a segment has fewer updates than that.
func (r *reader) lacks(tx *bbolt.Tx, seg *segment) bool {
	if seg.doubt.Load() == indexLacking {
		return true
	}
	count := uint64(0)
	var e chunkEntry
	err := guard(func() error {
		return r.eachChunk(tx, seg, nil, &e, func(e *chunkEntry) bool {
			count += e.count()
			return true
		})
	})
	known := indexWhole
	if err != nil || count < uint64(seg.count) {
		known = indexLacking
	}
	seg.doubt.Store(known)
	return known == indexLacking
}

// lacking finds a segment whose index lacks something: written anew, it has
// one that is whole. −1 for none.
func (db *DB) lacking(segs []*segment, pinned *pin) int {
	for i, seg := range segs {
		if seg.doubt.Load() == indexWhole || pinned.holds(seg) {
			continue
		}
		lacks := false
		if err := db.view(func(s *snapshot) error {
			lacks = s.lacks(s.tx, seg)
			return nil
		}); err == nil && lacks {
			return i
		}
	}
	return -1
}
