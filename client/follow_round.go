package client

import (
	"context"
	"errors"

	"tbhist/internal/wire"
)

// round is one question to history, read page by page to its end. It goes
// on where it was when a connection is lost in between.
type round struct {
	request *wire.Request // what to ask next: the question, or its cursor
	begun   bool          // a page was read
	moving  moving        // of its pages
	last    uint64        // seq of the newest line of those that were read to their end

	// filtered: the question has a bound of time, and so the numbers of the
	// updates in the answer say nothing about what is missing.
	filtered bool
	evicted  uint64 // what the broker says is missing
	exact    bool   // that is exact
	proven   uint64 // missing by ThingSeq, and reported as a gap
	// open is what may be missing beside: before the first updates of Things
	// of which it is not known where they stood.
	open uint64

	skipped skipReport // what the feed has skipped
	inSkip  uint64     // updates of the answer that are of it
}

// question makes the question from pos to the end of history.
func (f *follower) question() *round {
	q := Query{Name: f.q.Name, Alone: f.q.Alone, After: f.pos}
	if f.fresh {
		q = f.q
	} else if f.byTS() {
		q.Since, q.ByTS = f.q.Since, true
	}
	q.Epoch = f.epoch
	return &round{request: q.request(), filtered: q.Since.set, exact: true}
}

// errOlder tells that the broker has an older copy of its history.
var errOlder = errors.New("the history went back")

// ask reads history to its end; skipped is what it is asked for.
func (f *follower) ask(ctx context.Context, skipped skipReport) error {
	retry := newBackoff()
	for before := false; ; {
		if f.asked == nil {
			f.asked = f.question()
		}
		f.asked.skipped.merge(skipped)
		skipped = skipReport{}
		at := f.asked.request
		err := f.pages(ctx)
		var refused *BrokerError
		switch {
		case err == nil:
			return f.finish()
		case errors.Is(err, errStop) || ctx.Err() != nil || f.hold.ended() != nil:
			return err
		case errors.As(err, new(*NonsenseError)):
			a := f.asked
			f.asked = nil // from pos on, and so without what its pages have told
			if err := f.gap(a.evicted-min(a.evicted, a.proven), false, nil); err != nil {
				return err
			}
			return err
		case errors.Is(err, errOlder):
			if err := f.newEpoch(f.epoch); err != nil {
				return err
			}
		case errors.As(err, &refused):
			switch {
			case refused.Code == CodeBusy || refused.Code == CodeUnavailable:
			case refused.Code == CodeEpochChanged:
				return errTwoHistories
			case at.Cursor != "":
				f.asked = nil // from pos on, without it
			default:
				return err
			}
		case before && at == f.asked.request:
			return err // not a page came since it was lost before
		default:
			before = true // as happens while the loop takes its time over a page
		}
		f.hangUp()
		if err := retry.Pause(ctx); err != nil {
			return err
		}
	}
}

// pages hands out page after page.
func (f *follower) pages(ctx context.Context) error {
	if f.history == nil {
		h, err := f.broker.history(ctx)
		if err != nil {
			return err
		}
		f.history = h
	}
	return f.history.pages(ctx, f.asked.request, &f.asked.moving, f.page)
}

func (f *follower) page(p *page) error {
	a, head := f.asked, p.head
	switch {
	case head.Epoch != f.epoch:
		return errTwoHistories
	case !a.begun && head.Head < f.head:
		return errOlder
	}
	a.begun, f.answered, f.fresh = true, true, false
	f.head = max(f.head, head.Head)
	a.evicted += head.Evicted
	a.exact = a.exact && (head.EvictedExact || head.Evicted == 0)
	order := rising{h: f.history, name: f.q.Name, alone: f.q.Alone, last: a.last}
	for line := range p.lines {
		u, err := wire.ParseUpdate(line)
		if err != nil {
			return unreadable(err)
		}
		if err := order.next(u.Name, u.Seq); err != nil {
			return err
		}
		if err := f.replayed(&u); err != nil {
			return err
		}
	}
	a.last = order.last
	if head.Next != "" {
		a.request = &wire.Request{Type: wire.TypeReplay, Cursor: head.Next}
	} else {
		f.pos = max(f.pos, head.Head)
	}
	return nil
}

// replayed hands out an update of the answer, and before it, what is known
// to be missing before it.
func (f *follower) replayed(u *Update) error {
	a := f.asked
	if s := &a.skipped; u.Seq >= s.from && u.Seq <= s.to {
		a.inSkip++
	}
	if u.Seq <= f.pos {
		return nil
	}
	missing, known := f.things.missing(u)
	f.things.step(u)
	f.pos = u.Seq
	switch {
	case a.filtered:
	case known:
		a.proven += missing
		name := u.Name
		if err := f.gap(missing, true, &name); err != nil {
			return err
		}
	default:
		a.open += missing
	}
	return f.emit(Event{Kind: Updated, Update: *u, More: true})
}

// finish reports what else is missing, when history was read to its end.
func (f *follower) finish() error {
	a := f.asked
	f.asked = nil
	// What was evicted lies before an update that the answer has, because a
	// Thing's newest never is: so ThingSeq shows it, but where it was not
	// known where the Thing stood. The broker, too, may know a bound only.
	rest := a.evicted - min(a.evicted, a.proven)
	if !a.exact && !a.filtered {
		rest = min(rest, a.open)
	}
	if err := f.gap(rest, a.exact, nil); err != nil {
		return err
	}
	// What was skipped and history neither has nor had, the disk refused.
	if s := a.skipped; s.updates > 0 && !f.byTS() {
		found := a.inSkip + a.proven + rest
		if err := f.gap(s.updates-min(s.updates, found), false, nil); err != nil {
			return err
		}
	}
	f.read, f.gapped = f.pos, 0
	return f.emit(Event{Kind: CaughtUp})
}
