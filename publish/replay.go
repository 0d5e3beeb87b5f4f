package publish

import (
	"context"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// replay answers with one page of history.
func (a *asked) replay(ctx context.Context, r *wire.Request, q *question) (head []byte, err error) {
	done, err := a.turn(ctx, r.PageSize())
	if err != nil {
		return nil, err
	}
	defer done()
	pg := &a.lines
	pg.room = r.PageSize()
	got, err := a.p.o.Store.Read(ctx, q.query, func(u *thing.Update) bool {
		return pg.end(wire.AppendUpdate(pg.begin(wire.UpdateRoom(u)), u))
	})
	if err != nil {
		return nil, err
	}
	if err := a.fit(); err != nil {
		return nil, err
	}
	h := wire.PageHead{
		Type: wire.TypeReplayPage, ID: r.ID, Epoch: q.epoch,
		Count: pg.count, First: got.First, Last: got.Last, Head: got.Head, Limited: got.Limited,
		Evicted: got.Evicted, EvictedExact: got.EvictedExact || got.Evicted == 0,
	}
	if got.Next != nil {
		q.query.Resume = got.Next
		h.Next = q.cursor()
	}
	a.p.o.HistoryMetrics.Pages.Inc()
	a.p.o.HistoryMetrics.Updates.Add(float64(pg.count))
	return h.Append(nil), nil
}
