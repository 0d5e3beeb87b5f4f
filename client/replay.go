package client

import (
	"cmp"
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

	// ask asks and calls each with one line of the answer after the other.
	ask   func(each func(line []byte) error) error
	query Query
	order rising // of the lines
	lines uint64 // so far
	begun bool   // a page came
}

// Updates asks the broker and yields the answer in the order of Seq, page by
// page. An error is the last thing it yields; what came before is good. One
// of Updates and Lines may be ranged over, once.
func (r *Replay) Updates() iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		err := r.ask(func(line []byte) error {
			u, err := wire.ParseUpdate(line)
			if err != nil {
				return unreadable(err)
			}
			if err := r.order.next(u.Name, u.Seq); err != nil {
				return err
			}
			if !yield(u, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Update{}, err)
		}
	}
}

// Lines is Updates for a program that hands the answer on: each update is
// yielded as its line of JSON, as the live feed has it (docs/PROTOCOL.md,
// Live feed), without a newline. A line is valid until the next.
func (r *Replay) Lines() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		err := r.ask(func(line []byte) error {
			line, err := wire.UpdateLine(line)
			if err != nil {
				return unreadable(err)
			}
			if err := r.order.nextLine(line); err != nil {
				return err
			}
			if !yield(line, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

func unreadable(err error) error {
	return fmt.Errorf("a line of the broker's answer cannot be read: %w", err)
}

// Replay prepares a question to history; nothing is asked before the answer
// is ranged over.
func (c *Client) Replay(ctx context.Context, q Query, options ...ReplayOption) *Replay {
	var o replayOptions
	for _, option := range options {
		option(&o)
	}
	r := &Replay{EvictedExact: true, query: q, order: rising{name: q.Name, alone: q.Alone, last: q.After}}
	r.ask = func(each func(line []byte) error) error {
		if o.resumable {
			return r.resume(ctx, c, q.request(), o.lost, each)
		}
		h, err := c.history(ctx)
		if err != nil {
			return err
		}
		defer h.close()
		return h.pages(ctx, q.request(), new(moving), func(p *page) error { return r.page(h, p, each) })
	}
	return r
}

// page counts, and calls each, whose error ends it.
func (r *Replay) page(h *history, p *page, each func(line []byte) error) error {
	r.order.h = h
	r.lines += p.head.Count
	switch epoch := p.head.Epoch; {
	case r.begun && epoch != r.Epoch, r.query.Epoch != "" && epoch != r.query.Epoch:
		return h.nonsense("a page of history %q, where the answer is to be of %q", epoch, cmp.Or(r.query.Epoch, r.Epoch))
	case r.query.Limit != 0 && r.lines > r.query.Limit:
		return h.nonsense("%d updates, where at most %d were asked for", r.lines, r.query.Limit)
	}
	r.begun = true
	r.Head, r.Epoch, r.Limited = p.head.Head, p.head.Epoch, p.head.Limited
	r.Evicted += p.head.Evicted
	r.EvictedExact = r.EvictedExact && (p.head.EvictedExact || p.head.Evicted == 0)
	for line := range p.lines {
		if err := each(line); err != nil {
			return err
		}
	}
	return nil
}
