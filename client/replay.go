package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"tbhist/internal/wire"
)

// Replay is the answer to a Query. Its fields grow while Updates is ranged
// over and are final when that has ended.
type Replay struct {
	// Evicted counts the updates that the answer covers and that history no
	// longer holds; 0 exactly when there are none. It is exact if
	// EvictedExact, and else an upper bound.
	Evicted      uint64
	EvictedExact bool
	// Head is the newest Seq on the broker's disk when the newest page was
	// read: the answer is complete up to it.
	Head uint64
	// Epoch is the name of the broker's history file.
	Epoch string
	// Limited tells that Query.Limit ended the answer.
	Limited bool

	updates func(yield func(Update, error) bool)
}

// Updates asks the broker and yields the answer in the order of Seq, page by
// page. An error is the last thing it yields; what came before is good. It
// may be ranged over once.
func (r *Replay) Updates() iter.Seq2[Update, error] { return r.updates }

// Replay prepares a question to history; nothing is asked before the answer
// is ranged over.
func (c *Client) Replay(ctx context.Context, q Query) *Replay {
	r := &Replay{EvictedExact: true}
	r.updates = func(yield func(Update, error) bool) {
		h, err := c.history(ctx)
		if err != nil {
			yield(Update{}, err)
			return
		}
		defer h.close()
		err = r.run(ctx, h, q.request(), func(u *Update) bool { return yield(*u, nil) })
		if err != nil && !errors.Is(err, errStop) {
			yield(Update{}, err)
		}
	}
	return r
}

// run asks, counts and yields; the error is errStop when yield said so.
func (r *Replay) run(ctx context.Context, h *history, q *wire.Request, yield func(*Update) bool) error {
	return h.pages(ctx, q, func(p *page) error {
		r.Head, r.Epoch, r.Limited = p.head.Head, p.head.Epoch, p.head.Limited
		r.Evicted += p.head.Evicted
		r.EvictedExact = r.EvictedExact && (p.head.EvictedExact || p.head.Evicted == 0)
		for line := range p.lines {
			m, err := wire.ParseMessage(line)
			if err == nil && m.Kind != wire.KindUpdate {
				err = errors.New("it is no update")
			}
			if err != nil {
				return fmt.Errorf("a line of the broker's answer cannot be read: %w", err)
			}
			if !yield(&m.Update) {
				return errStop
			}
		}
		return nil
	})
}
