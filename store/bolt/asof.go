package bolt

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

// asOfAtOnce is how many Things one walk looks for: a page of an answer
// seldom takes more.
const asOfAtOnce = 2048

// AsOf implements store.Store.
func (db *DB) AsOf(ctx context.Context, q store.AsOf, yield func(*store.PastEntry) bool) (uint64, error) {
	if err := db.isClosing(ctx); err != nil {
		return 0, err
	}
	var head uint64
	err := db.view(func(s *snapshot) error {
		s.stop = func() error { return db.isClosing(ctx) }
		head = s.head
		var rings []*ring
		for _, r := range s.rings {
			if r == nil || r.gone() || (r.name != q.Name && (!q.Tree || !r.name.Under(q.Name))) ||
				(q.After != nil && r.name <= *q.After) {
				continue
			}
			rings = append(rings, r)
		}
		slices.SortFunc(rings, func(a, b *ring) int { return cmp.Compare(a.name, b.name) })
		for part := range slices.Chunk(rings, asOfAtOnce) {
			if err := db.isClosing(ctx); err != nil {
				return err
			}
			found, err := s.lastBy(part, q.At)
			if err != nil {
				return err
			}
			if err := s.stickyAt(db, found); err != nil {
				return err
			}
			for _, r := range part {
				e, ok := found[r.id]
				switch {
				case r.gone():
					continue // meanwhile
				case ok:
				case r.fk.Load() > 1:
					e = &store.PastEntry{Unknown: true, Update: thing.Update{Name: r.name}}
				default:
					continue // it began later
				}
				if !yield(e) {
					return nil
				}
			}
		}
		return nil
	})
	return head, err
}

// lastBy finds the last update by seq of each ring with received <= at.
func (s *snapshot) lastBy(rings []*ring, at thing.Micros) (map[uint32]*store.PastEntry, error) {
	found := make(map[uint32]*store.PastEntry, len(rings))
	ids := make([]uint32, len(rings))
	for i, r := range rings {
		ids[i] = r.id
	}
	sel := newSelection(ids)
	err := s.backward(sel, func(u *unit) bool { return u.span.minReceived <= at && len(found) < len(rings) },
		func(e *entry) bool {
			r := s.rings[e.id]
			if e.received > at || e.seq > s.head || e.thingSeq < r.fk.Load() || found[e.id] != nil {
				return true
			}
			u := e.update(r.name, s.docs)
			u.Data, u.Doc = bytes.Clone(u.Data), bytes.Clone(u.Doc)
			found[e.id] = &store.PastEntry{Update: u}
			return len(found) < len(rings)
		})
	return found, err
}

// stickyAt works out the documentation URL in force at each found update:
// its own, else that of an older one still held, else the Thing's present
// one if no newer update brought it.
func (s *snapshot) stickyAt(db *DB, found map[uint32]*store.PastEntry) error {
	var ids []uint32
	sticky := make(map[uint32][]byte)
	db.mu.RLock()
	for id, e := range found {
		r := s.rings[id]
		switch {
		case e.Update.Doc != nil && wire.Truthy(e.Update.Doc):
			e.Doc = e.Update.Doc
		case r.latest.sticky != nil:
			sticky[id] = bytes.Clone(r.latest.sticky)
			ids = append(ids, id)
		}
	}
	db.mu.RUnlock()
	if len(ids) == 0 {
		return nil
	}
	sel := newSelection(ids)
	settled := 0
	err := s.backward(sel, func(*unit) bool { return settled < len(ids) }, func(e *entry) bool {
		doc := e.docBytes(s.docs)
		if doc == nil || e.thingSeq < s.rings[e.id].fk.Load() || !wire.Truthy(doc) {
			return true
		}
		p := found[e.id]
		switch {
		case p.Doc != nil:
		case e.seq > p.Update.Seq:
			delete(sticky, e.id) // it came later
		default:
			p.Doc = bytes.Clone(doc)
			settled++
		}
		return settled < len(ids)
	})
	for id, doc := range sticky {
		if found[id].Doc == nil {
			found[id].Doc = doc
		}
	}
	return err
}

// Kept implements store.Store.
func (db *DB) Kept(ctx context.Context, names []thing.Name, yield func(i int, updates uint64, oldest thing.Micros)) error {
	if err := db.isClosing(ctx); err != nil {
		return err
	}
	return db.view(func(s *snapshot) error {
		s.stop = func() error { return db.isClosing(ctx) }
		rings := make([]*ring, len(names))
		kept := make([]uint64, len(names))
		want := make(map[uint32]uint64)
		db.mu.RLock()
		for i, name := range names {
			r := db.names[name]
			if r == nil || s.ring(r.id) == nil {
				continue
			}
			rings[i], kept[i] = r, r.head-r.fk.Load()+1
			want[r.id] = r.fk.Load()
		}
		db.mu.RUnlock()
		oldest := make(map[uint32]thing.Micros)
		if err := s.locate(want, nil, func(e *entry) { oldest[e.id] = e.received }); err != nil {
			return err
		}
		for i, r := range rings {
			if r == nil {
				yield(i, 0, 0)
				continue
			}
			yield(i, kept[i], oldest[r.id])
		}
		return nil
	})
}
