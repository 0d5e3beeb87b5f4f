package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"tbhist/internal/failpoint"
	"tbhist/metrics"
	"tbhist/store"
	"tbhist/thing"
)

// Forget takes a Thing, and with tree all below it, out of history. It is
// durable when it returns: nothing of these Things is answered any more, nor
// comes back with a start, and the next update of the same name is the first
// of a new Thing. What they had counts as evicted; its space is given back by
// the background work. dryRun tells what would go, and changes nothing.
//
// It waits for the batch that Append is busy with, and Append for it. After an
// error nothing was forgotten: store.ErrClosed, the context's error, or that
// of a disk that refuses.
func (db *DB) Forget(ctx context.Context, name thing.Name, tree, dryRun bool) (store.Forgotten, error) {
	if !dryRun {
		db.appending.Lock()
		defer db.appending.Unlock()
	}
	if err := db.isClosing(ctx); err != nil {
		return store.Forgotten{}, err
	}
	chosen, all := db.named(name, tree)
	if dryRun || len(chosen) == 0 {
		return all, nil
	}
	if why := db.degraded.Load(); why != nil {
		return store.Forgotten{}, fmt.Errorf("nothing was forgotten: the disk refuses: %s", *why)
	}
	graves := db.dig(chosen)
	pruned := slices.Clone(db.buried)
	for _, r := range chosen {
		pruned = append(pruned, r.id)
	}
	pruned = pruned[:max(0, len(pruned)-db.o.mostBuried)]
	err := db.commit(ctx, false, func(tx *bbolt.Tx) error {
		// The reserve is for this too; more than that is known before it is written.
		if err := db.roomFor(tx, int64(len(graves)+len(pruned))*graveBytes/pageSize+smallPages, 0); err != nil {
			return err
		}
		return errors.Join(putForgotten(tx, graves), dropNames(tx, pruned))
	})
	if err != nil {
		return store.Forgotten{}, fmt.Errorf("nothing was forgotten: %w", err)
	}
	failpoint.Hit("forget.after")
	all.Updates = db.applyForgotten(chosen, graves, pruned)
	db.log.Info("forgotten", "ns", string(name), "tree", tree, "things", all.Things, "updates", all.Updates)
	db.maint.recountAll.Store(true)
	db.nudge()
	return all, nil
}

// named gives the Things that a name stands for, in the order of their ids.
func (db *DB) named(name thing.Name, tree bool) (chosen []*ring, all store.Forgotten) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if r := db.names[name]; r != nil && !tree {
		chosen = append(chosen, r)
	} else if tree {
		for _, r := range db.names {
			if r.name.Under(name) {
				chosen = append(chosen, r)
			}
		}
	}
	slices.SortFunc(chosen, func(a, b *ring) int { return cmp.Compare(a.id, b.id) })
	for _, r := range chosen {
		all.Things++
		all.Updates += r.head - r.fk.Load() + 1
		all.Names = append(all.Names, r.name)
	}
	slices.Sort(all.Names)
	return chosen, all
}

// graveBytes is about what a grave takes on its page, and a name that is dropped.
const graveBytes = 60

// grave is what stays known of a forgotten Thing (docs/FORMAT.md, Forgotten
// Things).
type grave struct {
	id   uint32
	head uint64 // how many updates it had, ever
	at   uint64 // head seq when it was forgotten
	lost lost   // bounds all of them from above
}

// dig makes the graves of some rings. Not all that they lost is known one by
// one, so that what bounds the times of all history bounds theirs.
func (db *DB) dig(rings []*ring) []grave {
	now := thing.MicrosOf(db.o.Now())
	times := span{maxReceived: now, maxTS: now.Seconds()}
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.logged.count > 0 {
		times.join(db.logged.span)
	}
	for _, seg := range db.segs {
		if seg.count > 0 {
			times.join(seg.span)
		}
	}
	graves := make([]grave, len(rings))
	for i, r := range rings {
		l := lost{
			thingSeq: r.head, seq: r.latest.seq,
			received: max(times.maxReceived, r.lost.received), ts: max(times.maxTS, r.lost.ts),
		}
		if r.unsure != 0 {
			l.ts = maxTS // a crash left open what is gone
		}
		graves[i] = grave{id: r.id, head: r.head, at: db.head, lost: l}
	}
	return graves
}

// maxTS is the latest ts that an update may have (docs/PROTOCOL.md, Input).
const maxTS = 1e11

// putForgotten writes all graves, in one transaction however many: of a tree
// half would be neither the one nor the other.
func putForgotten(tx *bbolt.Tx, graves []grave) error {
	b, err := tx.CreateBucketIfNotExists(bucketForgotten)
	if err != nil {
		return err
	}
	b.FillPercent = 1
	for i := range graves {
		key := idKey(graves[i].id)
		if err := b.Put(key, checkedValue(key, graves[i].append(nil))); err != nil {
			return err
		}
	}
	failpoint.Hit("forget.commit")
	return nil
}

func dropNames(tx *bbolt.Tx, ids []uint32) error {
	things := tx.Bucket(bucketThings)
	for _, id := range ids {
		if err := things.Delete(idKey(id)); err != nil {
			return err
		}
	}
	return nil
}

// applyForgotten brings memory to the state that was committed, and gives how
// many updates that took. Under appending.
func (db *DB) applyForgotten(chosen []*ring, graves []grave, pruned []uint32) (updates uint64) {
	// They may hold a ring that is gone under a name that begins anew.
	db.stage.slots = thing.Slots[ring]{}
	db.evicting.Lock()
	defer db.evicting.Unlock()
	db.mu.Lock()
	defer db.mu.Unlock()
	for i, r := range chosen {
		updates += r.head - r.fk.Load() + 1
		r.bury(&graves[i])
		delete(db.names, r.name)
		db.buried = append(db.buried, r.id)
	}
	if len(pruned) > 0 {
		db.buried = slices.Clone(db.buried[len(pruned):])
		db.rings = slices.Clone(db.rings) // readers have the old one
		for _, id := range pruned {
			db.rings[id] = nil
		}
	}
	db.countEvicted(metrics.EvictForget, updates)
	return updates
}

// bury makes a ring that of a forgotten Thing: all of it is evicted, the
// newest too. Under evicting and mu, or at a start.
func (r *ring) bury(g *grave) {
	r.head, r.next = g.head, g.head
	r.fk.Store(g.head + 1)
	r.forgotten.Store(max(g.at, 1))
	r.lost, r.unsure = g.lost, 0
	r.latest, r.sizes, r.bytes = latest{}, nil, 0
}

// gone tells whether the Thing was forgotten: then a reader leaves it out.
func (r *ring) gone() bool { return r.forgotten.Load() != 0 }

// concerns tells whether a question is about a ring that goes by the right
// name. A forgotten Thing is like one whose updates were all evicted; but the
// newest so many are those of Things that there were when that was asked.
func (r *ring) concerns(q *store.Query, pos *position) bool {
	at := r.forgotten.Load()
	return at == 0 || q.Last == 0 || (!pos.first && at >= pos.upTo)
}
