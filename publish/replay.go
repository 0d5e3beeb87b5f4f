package publish

import (
	"context"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// page is the body of an answer while it is filled: lines, each with its
// newline.
type page struct {
	body  []byte
	room  int
	count uint64
	full  bool
}

// line takes the line that make appends; it is refused, and the page full,
// when there is no more room. The first line always fits.
func (p *page) line(make func(dst []byte) []byte) bool {
	before := len(p.body)
	p.body = append(make(p.body), '\n')
	if p.count > 0 && len(p.body) > p.room {
		p.body, p.full = p.body[:before], true
		return false
	}
	p.count++
	return true
}

// replay answers with one page of history.
func (a *asked) replay(ctx context.Context, r *wire.Request, q *question) ([][]byte, error) {
	done, err := a.turn(ctx, r.PageSize())
	if err != nil {
		return nil, err
	}
	defer done()
	pg := page{room: r.PageSize()}
	got, err := a.p.o.Store.Read(ctx, q.query, func(u *thing.Update) bool {
		return pg.line(func(dst []byte) []byte { return wire.AppendUpdate(dst, u) })
	})
	if err != nil {
		return nil, err
	}
	head := wire.PageHead{
		Type: wire.TypeReplayPage, ID: r.ID, Epoch: q.epoch,
		Count: pg.count, First: got.First, Last: got.Last, Head: got.Head, Limited: got.Limited,
		Evicted: got.Evicted, EvictedExact: got.EvictedExact || got.Evicted == 0,
	}
	if got.Next != nil {
		q.query.Resume = got.Next
		head.Next = q.cursor()
	}
	a.p.o.HistoryMetrics.Pages.Inc()
	a.p.o.HistoryMetrics.Updates.Add(float64(pg.count))
	return [][]byte{head.Append(nil), pg.body}, nil
}
