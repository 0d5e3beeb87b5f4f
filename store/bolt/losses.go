package bolt

import (
	"math"

	"go.etcd.io/bbolt"
)

// losses gathers updates whose bytes go from the file: of each Thing what
// bounds them from above.
type losses struct {
	at   map[uint32]int // of lost, by Thing id
	ids  []uint32
	lost []lost
}

func (l *losses) add(e *entry) {
	at, ok := l.at[e.id]
	if !ok {
		if l.at == nil {
			l.at = make(map[uint32]int)
		}
		at = len(l.lost)
		l.at[e.id] = at
		l.ids = append(l.ids, e.id)
		l.lost = append(l.lost, lost{received: math.MinInt64, ts: math.Inf(-1)})
	}
	was := &l.lost[at]
	was.thingSeq, was.seq = max(was.thingSeq, e.thingSeq), max(was.seq, e.seq)
	was.received, was.ts = max(was.received, e.received), max(was.ts, e.ts)
}

// join bounds what both bound.
func (l lost) join(o lost) lost {
	if l.thingSeq == 0 {
		return o
	}
	return lost{max(l.thingSeq, o.thingSeq), max(l.seq, o.seq), max(l.received, o.received), max(l.ts, o.ts)}
}

// putLost writes down, with what takes their bytes, that the newest checkpoint
// does not know of them: should the process end before the next one, a start
// that finds nothing behind it would take them for none.
func (db *DB) putLost(tx *bbolt.Tx, gone *losses) error {
	if len(gone.lost) == 0 {
		return nil
	}
	return tx.Bucket(bucketMeta).Put(keyLost, []byte{1})
}

// noteLost remembers them. Under mu.
func (db *DB) noteLost(gone *losses) {
	if len(gone.lost) > 0 {
		db.maint.lostDirty = true // as putLost has written
	}
	for i, l := range gone.lost {
		if uint64(gone.ids[i]) >= uint64(len(db.rings)) || db.rings[gone.ids[i]] == nil {
			continue // damage
		}
		r := db.rings[gone.ids[i]]
		r.lost = r.lost.join(l)
		if r.lost.thingSeq > r.unsure {
			r.unsure = 0 // whatever it was lies below
		}
	}
}

// lossesOf bounds the updates that go with some dead segments from above. Their
// seq and times tell later whether a question could have been about them, so
// they are read, not guessed from the index: from the newest on, until nothing
// that is older could make a difference.
func (db *DB) lossesOf(segs []*segment) (*losses, error) {
	gone := &losses{}
	err := db.view(func(s *snapshot) error {
		var blocks []blockAt
		things := make(map[uint32]struct{})
		var e chunkEntry
		unsure := false // damage: all is read then
		for _, seg := range segs {
			blocks = s.blocksOf(seg, blocks)
			if err := s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool {
				if s.ring(e.id) != nil {
					things[e.id] = struct{}{}
				}
				return true
			}); err != nil {
				s.damage(err)
				unsure = true
			}
		}
		// What bounds the times of all blocks before each.
		before := make([]span, len(blocks)+1)
		before[0] = emptySpan()
		for i := range blocks {
			before[i+1] = before[i]
			before[i+1].join(blocks[i].span)
		}
		for i := len(blocks) - 1; i >= 0; i-- {
			es := s.blockAt(blocks[i])
			for j := range es {
				if e := &es[j]; s.ring(e.id) != nil && e.thingSeq < s.ring(e.id).fk.Load() {
					gone.add(e)
				}
			}
			if !unsure && len(gone.lost) == len(things) && gone.bound(before[i]) {
				break
			}
		}
		return nil
	})
	return gone, err
}

// bound tells whether the times of no update within the span are above those
// of any Thing that are known.
func (l *losses) bound(s span) bool {
	for i := range l.lost {
		if g := &l.lost[i]; g.received < s.maxReceived || g.ts < s.maxTS {
			return false
		}
	}
	return true
}
