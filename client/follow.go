package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// EventKind tells what an Event is.
type EventKind uint8

// The kinds of events.
const (
	// Updated: an update, from history or live.
	Updated EventKind = iota
	// Gap: updates are missing before this point, because history no longer
	// holds them.
	Gap
	// CaughtUp: all that history had was handed out. Comes once history was
	// read, and again whenever it had to be read anew.
	CaughtUp
)

// Event is one step of Follow.
type Event struct {
	Kind EventKind
	// Update is that of Updated. A Seq of 0 means that the disk refused it:
	// it is not kept and never will be.
	Update Update
	// Missing counts the updates of a Gap; it is an upper bound unless
	// MissingExact.
	Missing      uint64
	MissingExact bool
	// More tells that another event follows without waiting for the feed: a
	// program that buffers its output need not flush now.
	More bool
}

// Follow yields history and then what comes in, without a hole or a double
// between them, in the order of Seq. It ends when ctx does, with its error,
// or with ErrLost when the connection ends. Query.Until and Query.Limit do
// not count; Query.Last counts for history only.
//
// How (docs/PROTOCOL.md, History service): the live feed is subscribed to
// first and held; history is read to its end; then what was held and is
// newer is handed on. That a subscription is at work is not known before the
// first heartbeat has come: until then history is read again for each update
// that arrives.
func (c *Client) Follow(ctx context.Context, q Query) iter.Seq2[Event, error] {
	q.Until, q.Limit = Bound{}, 0
	if q.ByTS {
		q.Since = q.Since.absolute(time.Now())
	}
	return func(yield func(Event, error) bool) {
		feed, err := c.feed(ctx, q.Name, !q.Alone, false)
		if err != nil {
			yield(Event{}, err)
			return
		}
		hold := newHold()
		filled := make(chan struct{})
		go func() {
			defer close(filled)
			hold.fill(ctx, feed)
		}()
		defer func() {
			feed.close()
			<-filled
		}()
		f := &follower{client: c.on(feed.at), q: q, hold: hold, pos: q.After, yield: func(e Event) bool { return yield(e, nil) }}
		defer f.hangUp()
		if err := f.run(ctx); !errors.Is(err, errStop) {
			yield(Event{}, err)
		}
	}
}

// follower is the state of one Follow.
type follower struct {
	client *Client
	q      Query
	hold   *hold
	yield  func(Event) bool

	history *history // open while it is likely to be needed
	epoch   string
	// pos: every update that matches and has a seq up to this was handed
	// out, or reported missing.
	pos uint64
	// proven: the subscription is at work, and everything that matches
	// beyond pos comes on the feed or is held.
	proven bool
}

// run asks and hands on until it fails: with errStop if the loop was left.
func (f *follower) run(ctx context.Context) error {
	first := f.q.request()
	for {
		if err := f.round(ctx, first); err != nil {
			return err
		}
		first = nil
		if f.proven {
			f.hangUp() // history is not needed soon
		}
		if err := f.live(ctx); err != nil {
			return err
		}
	}
}

// round reads history from pos to its end; first is the question of the
// first round.
func (f *follower) round(ctx context.Context, first *wire.Request) error {
	if f.history == nil {
		h, err := f.client.history(ctx)
		if err != nil {
			return err
		}
		f.history = h
	}
	request := first
	if request == nil {
		q := Query{Name: f.q.Name, Alone: f.q.Alone, After: f.pos, Epoch: f.epoch}
		if f.q.ByTS {
			q.Since, q.ByTS = f.q.Since, true
		}
		request = q.request()
	}
	r := &Replay{EvictedExact: true}
	err := r.run(ctx, f.history, request, func(u *Update) bool {
		return f.yield(Event{Kind: Updated, Update: *u, More: true})
	})
	if err != nil {
		return err
	}
	f.pos, f.epoch = max(f.pos, r.Head), r.Epoch
	if r.Evicted > 0 && !f.yield(Event{Kind: Gap, Missing: r.Evicted, MissingExact: r.EvictedExact, More: true}) {
		return errStop
	}
	if !f.yield(Event{Kind: CaughtUp}) {
		return errStop
	}
	return nil
}

// live hands on what comes on the feed, until history must be asked again.
func (f *follower) live(ctx context.Context) error {
	for {
		item, err := f.hold.take(ctx)
		if err != nil {
			return err
		}
		again := item.dropped
		switch h := item.heartbeat; {
		case h != nil:
			again = again || h.Skipped > 0 || !f.proven && h.Seq > f.pos
			if f.proven && !again {
				f.pos = max(f.pos, h.Seq)
			}
			f.proven = true
		case item.dropped:
		case item.update.Kept() && item.update.Seq <= f.pos:
		case item.update.Kept() && !f.proven:
			again = true
		default:
			f.pos = max(f.pos, item.update.Seq)
			if f.matches(&item.update) && !f.yield(Event{Kind: Updated, Update: item.update, More: f.more()}) {
				return errStop
			}
		}
		if again {
			return nil
		}
	}
}

// matches tells whether a live update is asked for: the broker filters by
// name, and all but the source's time is later than what history gave.
func (f *follower) matches(u *Update) bool {
	return !f.q.ByTS || !f.q.Since.set || thing.MicrosOfSeconds(u.TS) >= f.q.Since.at
}

// more tells that the next item is there, and is an event.
func (f *follower) more() bool {
	item, ok := f.hold.peek()
	return ok && item.heartbeat == nil && !item.dropped && f.matches(&item.update) &&
		(!item.update.Kept() || item.update.Seq > f.pos)
}

func (f *follower) hangUp() {
	if f.history != nil {
		f.history.close()
		f.history = nil
	}
}
