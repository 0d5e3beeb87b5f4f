package client

import (
	"context"
	"time"

	"tbhist/internal/backoff"
	"tbhist/internal/wire"
	"tbhist/thing"
)

// listening is the state of one Feed.
type listening struct {
	client *Client
	q      FeedQuery
	wait   bool // for the first broker
	yield  func(FeedMessage) bool
	retry  backoff.Backoff

	met    bool // a broker has been heard, ever
	down   bool // Disconnected was told
	epoch  string
	pos    uint64      // the newest seq that came, or lies behind a heartbeat
	told   uint64      // Missed since the last heartbeat, of everything: it may tell them again
	things *continuity // unless everything is subscribed to: then pos tells
}

// originalAfter is how long the first heartbeat may take before the broker is
// asked for snapshots: an original one sends no heartbeats, and nothing at
// all while its Things are quiet, but a snapshot every 15 s.
const originalAfter = 2 * time.Second

// maxEarly bounds the bytes of the updates that may come before the first
// heartbeat, which a broker sends at once: behind one snapshot, if that is asked
// for, which Options.MaxDirectory bounds.
const maxEarly = 256 << 20

func (l *listening) run(ctx context.Context) error {
	return endless(ctx, &l.retry, l.session, func(err error) error {
		switch {
		case !l.met && !l.wait:
			return err
		case l.down:
			return nil
		}
		l.down = true
		return l.emit(FeedMessage{Disconnected: err})
	})
}

func (l *listening) emit(m FeedMessage) error {
	m.Epoch = l.epoch
	if !l.yield(m) {
		return errStop
	}
	return nil
}

// session listens over one connection until it is lost.
func (l *listening) session(ctx context.Context) error {
	f, err := l.client.feed(ctx, l.q.Name, !l.q.Alone, l.q.Snapshots)
	if err != nil {
		return err
	}
	defer f.close()
	defer lasted(&l.retry, time.Now())
	if err := l.begin(ctx, f); err != nil {
		return err
	}
	for {
		m, err := f.next(ctx)
		if err != nil {
			return err
		}
		if err := l.heard(&m, f.more()); err != nil {
			return err
		}
	}
}

// begin waits for the first heartbeat: before that it is not known of which
// history the numbers are. What only an original broker sends, which has no
// numbers, does as well.
func (l *listening) begin(ctx context.Context, f *feed) error {
	snapshots := func() { _ = f.Subscribe([]byte(wire.SnapshotPrefix)) } // next tells of a lost connection
	asked := time.AfterFunc(originalAfter, snapshots)
	defer asked.Stop()
	var early []wire.Message
	size, listed := 0, int64(0)
	for {
		m, err := f.next(ctx)
		if err != nil {
			return err
		}
		if fromOriginal(&m) {
			if asked.Stop() {
				snapshots()
			}
			if err := l.meet(&wire.Heartbeat{}); err != nil {
				return err
			}
			return l.heard(&m, f.more())
		}
		if m.Kind != wire.KindHeartbeat {
			early = append(early, m)
			more := f.size + (1+len(m.Snapshot.Entries))*heldOverhead
			if m.Kind == wire.KindSnapshot { // of many Things it is large
				listed += int64(more)
			} else {
				size += more
			}
			if size > l.client.maxEarly || listed > l.client.o.MaxDirectory {
				return f.nonsense("%d MiB, and no heartbeat", (int64(size)+listed)>>20)
			}
			continue
		}
		if err := l.meet(&m.Heartbeat); err != nil {
			return err
		}
		for i := range early {
			if err := l.heard(&early[i], true); err != nil {
				return err
			}
		}
		return l.heard(&m, f.more())
	}
}

// fromOriginal tells that m has not what each message of tbhist has.
func fromOriginal(m *wire.Message) bool {
	return m.Kind == wire.KindUpdate && m.Update.Received == 0 || m.Kind == wire.KindSnapshot && m.Snapshot.Epoch == ""
}

// meet takes note of the broker that was found.
func (l *listening) meet(h *wire.Heartbeat) error {
	news := FeedMessage{Reconnected: l.down, NewEpoch: l.met && (h.Epoch != l.epoch || h.Seq < l.pos), More: true}
	if !l.met || news.NewEpoch {
		l.pos = h.Seq
		l.things.forget()
	}
	l.met, l.down, l.epoch = true, false, h.Epoch
	if news.Reconnected || news.NewEpoch {
		return l.emit(news)
	}
	return nil
}

// heard hands on a message.
func (l *listening) heard(m *wire.Message, more bool) error {
	out := FeedMessage{More: more}
	switch m.Kind {
	case wire.KindUpdate:
		if m.Update.Received == 0 { // an original broker does not tell
			m.Update.Received = thing.MicrosOf(time.Now())
		}
		out.Updates = []Update{m.Update}
		if out.Missed = l.missed(&m.Update); l.whole() {
			l.told += out.Missed
		}
	case wire.KindHeartbeat:
		h := &m.Heartbeat
		out.Skipped = h.Skipped - min(h.Skipped, l.told)
		l.told = 0
		switch {
		case h.Skipped > 0:
			l.things.forget()
		case l.whole() && h.Seq > l.pos:
			out.Missed = h.Seq - l.pos
		}
		l.pos = max(l.pos, h.Seq)
	case wire.KindSnapshot:
		if !l.q.Snapshots {
			return nil // see originalAfter
		}
		out.Snapshot = true
		for _, e := range m.Snapshot.Entries {
			if e.Update.Name == l.q.Name || !l.q.Alone && e.Update.Name.Under(l.q.Name) {
				e.Update.Doc = e.Doc
				if e.Update.Received == 0 {
					e.Update.Received = thing.MicrosOfSeconds(e.Update.TS)
				}
				out.Updates = append(out.Updates, e.Update)
			}
		}
	}
	return l.emit(out)
}

// whole: all updates are subscribed to, and so seq has no holes.
func (l *listening) whole() bool { return l.q.Name == "" && !l.q.Alone }

// missed counts the updates before u that are proven not to have come.
func (l *listening) missed(u *Update) uint64 {
	if !u.Kept() {
		return 0
	}
	before := l.pos
	l.pos = max(l.pos, u.Seq)
	if l.whole() {
		return u.Seq - min(u.Seq, before+1)
	}
	missing, known := l.things.missing(u)
	l.things.step(u)
	if !known {
		return 0
	}
	return missing
}
