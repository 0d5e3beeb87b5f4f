package client

import (
	"context"
	"errors"
	"time"

	"tbhist/internal/wire"
)

// ReplayOption changes how Replay asks.
type ReplayOption func(*replayOptions)

type replayOptions struct {
	resumable bool
	lost      func(error)
}

// Resumable has an answer that was begun outlive its connection: when that is
// lost, or the broker is busy, it is asked again until it answers, and the
// answer goes on behind the last update that was yielded, with the bounds that
// it began with. The broker may be restarted meanwhile; another history in its
// place is a BrokerError with CodeEpochChanged. It is for who takes long over
// an answer, too: no connection is held while a page is used up slowly. The
// price is that no page is read ahead.
//
// lost, unless nil, is called on the goroutine that ranges: with the error
// when the broker is gone, and with nil when it is there again.
func Resumable(lost func(err error)) ReplayOption {
	if lost == nil {
		lost = func(error) {}
	}
	return func(o *replayOptions) { o.resumable, o.lost = true, lost }
}

// longHeld is how long a connection is held that nothing is read from.
const longHeld = 3 * time.Second

// resume asks page by page until the answer is complete, over connections
// that are lost.
func (r *Replay) resume(ctx context.Context, c *Client, q *wire.Request, lost func(error), each func(line []byte) error) error {
	var h *history
	hangUp := func() {
		if h != nil {
			h.close()
			h = nil
		}
	}
	defer hangUp()
	retry := newBackoff()
	var moving moving
	for begun, down := false, false; ; {
		p, err := c.page(ctx, &h, q)
		if err != nil {
			hangUp()
			var refused *BrokerError
			switch {
			case ctx.Err() != nil, !begun, errors.As(err, new(*NonsenseError)):
				return err
			case errors.As(err, &refused) && refused.Code != CodeBusy && refused.Code != CodeUnavailable:
				return err
			case !down:
				down = true
				lost(err)
			}
			if err := retry.Pause(ctx); err != nil {
				return err
			}
			continue
		}
		if down {
			down = false
			lost(nil)
		}
		begun = true
		retry.Reset()
		at := time.Now()
		if err := moving.next(h, q.Cursor, p); err != nil {
			return err
		}
		if err := r.page(h, p, each); err != nil || p.head.Next == "" {
			return err
		}
		q = &wire.Request{Type: q.Type, Cursor: p.head.Next}
		if time.Since(at) > longHeld {
			hangUp()
		}
	}
}

// page asks for one page; h is the connection, made if there is none.
func (c *Client) page(ctx context.Context, h **history, q *wire.Request) (*page, error) {
	if *h == nil {
		made, err := c.history(ctx)
		if err != nil {
			return nil, err
		}
		*h = made
	}
	size := pageBytes
	q.PageBytes = &size
	if err := (*h).send(ctx, q); err != nil {
		return nil, err
	}
	return (*h).receive(ctx, q.Type)
}
