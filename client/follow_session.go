package client

import (
	"context"
	"errors"
	"time"

	"tbhist/internal/backoff"
	"tbhist/internal/wire"
)

// errTwoHistories ends a connection: the feed and the answers are not of the
// same history, so one of the two ends leads to a broker that is gone.
var errTwoHistories = errors.New("the broker was replaced by one with another history")

// run follows over one connection after the other until it fails for good:
// with errStop if the loop was left.
func (f *follower) run(ctx context.Context) error {
	return endless(ctx, &f.retry, f.session, func(err error) error {
		switch {
		case !f.answered && !f.wait, refusedForGood(err):
			return err
		case f.down:
			return nil
		}
		f.down = true
		return f.emit(Event{Kind: Disconnected, Err: err})
	})
}

// refusedForGood tells whether asking again makes no sense.
func refusedForGood(err error) bool {
	var refused *BrokerError
	return errors.As(err, &refused) && (refused.Code == CodeBadRequest || refused.Code == CodeTooLarge)
}

// session follows over one connection to the feed, until it is lost.
func (f *follower) session(ctx context.Context) error {
	feed, err := f.client.feed(ctx, f.q.Name, !f.q.Alone, false)
	if err != nil {
		return err
	}
	f.broker, f.hold = f.client.on(feed.at), newHold(maxHeld)
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		f.hold.fill(ctx, feed)
	}()
	defer func() {
		feed.close()
		<-filled
		f.hangUp()
	}()
	var skipped skipReport
	if err := f.begin(ctx, &skipped); err != nil {
		return err
	}
	if f.answered { // others will be back at this moment, too
		if err := backoff.Wait(ctx, f.again.next(time.Now())); err != nil {
			return err
		}
	}
	for {
		gone := f.hold.resume()
		if gone.epoch != "" && gone.epoch != f.epoch {
			return errTwoHistories
		}
		if err := f.gap(gone.unkept, true, nil); err != nil {
			return err
		}
		skipped.merge(gone.skipReport)
		if err := f.ask(ctx, skipped); err != nil {
			return err
		}
		f.retry.Reset()
		f.hangUp() // history is not needed soon
		if skipped, err = f.live(ctx); err != nil {
			return err
		}
		if err := backoff.Wait(ctx, f.again.next(time.Now())); err != nil {
			return err
		}
	}
}

func (r *skipReport) merge(o skipReport) {
	r.add(&wire.Heartbeat{SkippedFrom: o.from, SkippedTo: o.to, Skipped: o.updates})
}

// begin waits for the first heartbeat: from there on the feed brings
// everything. Of what comes before it, history has what was kept.
func (f *follower) begin(ctx context.Context, skipped *skipReport) error {
	for {
		item, err := f.hold.take(ctx)
		switch {
		case err != nil:
			return err
		case item.dropped:
			gone := f.hold.resume()
			if err := f.gap(gone.unkept, true, nil); err != nil {
				return err
			}
		case item.heartbeat == nil:
			if !item.update.Kept() && f.matches(&item.update) {
				if err := f.emit(Event{Kind: Updated, Update: item.update}); err != nil {
					return err
				}
			}
		default:
			skipped.add(item.heartbeat)
			return f.meet(item.heartbeat)
		}
	}
}

// meet takes note of the broker that was found.
func (f *follower) meet(h *wire.Heartbeat) error {
	if f.down {
		f.down = false
		if err := f.emit(Event{Kind: Reconnected}); err != nil {
			return err
		}
	}
	if !f.q.ByTS && f.q.Since.set && f.q.Since.at <= 0 && !f.answered {
		// By the broker's clock, for a history that may come after this one.
		f.since = f.q.Since.absolute(h.TS.Time())
	}
	if f.epoch != "" && f.epoch != h.Epoch {
		return f.newEpoch(h.Epoch)
	}
	f.epoch = h.Epoch
	return nil
}

// newEpoch begins anew with another history.
func (f *follower) newEpoch(epoch string) error {
	f.epoch, f.fresh, f.head, f.pos, f.asked = epoch, true, 0, 0, nil
	if f.since.set {
		f.q.Since = f.since
	}
	f.q.After, f.q.Last = 0, 0
	f.things = newContinuity(!f.q.Since.set)
	f.read, f.gapped = 0, 0
	return f.emit(Event{Kind: NewEpoch})
}

func (f *follower) hangUp() {
	if f.history != nil {
		f.history.close()
		f.history = nil
	}
}
