package bolt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"go.etcd.io/bbolt"

	"tbhist/thing"
)

// append encodes a grave.
func (g *grave) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, g.id)
	dst = binary.AppendUvarint(dst, g.head)
	dst = binary.AppendUvarint(dst, g.lost.seq)
	dst = binary.AppendUvarint(dst, g.at)
	dst = binary.AppendUvarint(dst, zigzag(int64(g.lost.received)))
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(g.lost.ts))
}

// parseGrave decodes what stands under a key; ok is false for damage.
func parseGrave(key, stored []byte) (g grave, ok bool) {
	if len(stored) < 4+4 {
		return grave{}, false
	}
	value := stored[4:]
	if _, ok = openChecked(value[:4], stored); !ok { // the id's own: a key may be damaged alone
		if value, ok = openChecked(key, stored); !ok {
			return grave{}, false
		}
	}
	f := fields{b: value[4:]}
	g.id = binary.BigEndian.Uint32(value)
	g.head, g.lost.seq, g.at = f.uv(), f.uv(), f.uv()
	g.lost.thingSeq = g.head
	g.lost.received, g.lost.ts = thing.Micros(f.zz()), f.f64()
	return g, !f.bad && g.head > 0
}

// loadForgotten reads which ids are dead. It comes before everything that
// might hold something of them.
func (db *DB) loadForgotten(tx *bbolt.Tx) {
	b := tx.Bucket(bucketForgotten)
	if b == nil {
		return
	}
	given := uint32(len(db.rings))
	db.dead = make(map[uint32]*grave)
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if len(k) != 4 {
			continue
		}
		g, ok := parseGrave(k, v)
		if !ok {
			db.damage(damaged(bucketForgotten, k, errors.New("checksum does not match")))
			// Whose it was is still said by the key.
			if id := binary.BigEndian.Uint32(k); id < given && db.dead[id] == nil {
				db.dead[id] = nil
			}
			continue
		}
		// Should it not be known how many ids were given, so many were.
		if !db.admit(g.id) {
			db.damage(damaged(bucketForgotten, k, errManyIDs))
			continue
		}
		db.dead[g.id] = &g
	}
}

// isDead tells during a start whether an id is that of a forgotten Thing.
func (db *DB) isDead(id uint32) bool {
	_, dead := db.dead[id]
	return dead
}

// buryDead makes the rings of forgotten Things whose names are there what
// they were, at the end of a start's reading.
func (db *DB) buryDead() {
	for id, g := range db.dead {
		r := db.rings[id]
		switch {
		case r == nil:
		case g == nil:
			db.rings[id] = nil
		default:
			r.bury(g)
			db.buried = append(db.buried, id)
		}
	}
	slices.SortFunc(db.buried, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(db.dead[a].at, db.dead[b].at), cmp.Compare(a, b))
	})
	db.dead = nil
}
