package publish

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// feedConn is what a subscriber takes of its *zmtp.Conn.
type feedConn interface {
	Read() (zmtp.Frame, error)
	Write(framed ...[]byte) error
	Flush() error
	Close() error
	Remote() netip.AddrPort
	Subscriptions() *zmtp.Subscriptions
}

// subscriber is one connection of the feed: a cursor, and a goroutine that
// writes what it passes. A second one reads subscriptions.
type subscriber struct {
	p    *Publisher
	conn feedConn
	wake chan struct{} // room for one

	subsMu   sync.Mutex
	prefixes *zmtp.Subscriptions
	built    *matcher // of prefixes; nil when they have changed

	// The cursor, guarded by Publisher.mu. While idle it stands at the end
	// of the window, wherever that moves, and next, idx and after mean
	// nothing.
	idle  bool
	next  uint64 // ord of the next chunk
	idx   int    // messages of it that were passed already
	after uint64 // newest seq passed
	// since is when it last had caught up, sending when the update that it
	// is being sent was received; 0 for none.
	since   time.Time
	sending thing.Micros

	waits   bool // stands in Publisher.waiting
	skipped skipReport

	// How many different prefixes it has, and how many of them fit every
	// update, snapshots, and heartbeats. Guarded by Publisher.mu, like all
	// until the writer's own.
	held, all, snaps, beats int
	beat                    uint64 // the last heartbeat sent, of Publisher.beats
	beatNow                 bool   // one is to be sent out of turn
	snap                    snapWish

	// The writer's own.
	begun   bool // it was seen to have subscribed: the cursor never jumps ahead
	told    bool // something was sent: nor does it go back
	dirty   bool // something was written and not flushed
	run     []*chunk
	history catchUp
}

// ServeFeed serves one subscriber until its connection or ctx ends. It is
// the handler of the feed's listener.
func (p *Publisher) ServeFeed(ctx context.Context, c *zmtp.Conn) {
	err := p.serveFeed(ctx, c)
	if errors.Is(err, zmtp.ErrWriteDeadline) {
		p.o.Metrics.WriteDeadline.Inc()
		p.o.Logger.Warn("subscriber disconnected: it took nothing for the write deadline", "source", c.Remote())
	}
}

func (p *Publisher) serveFeed(ctx context.Context, c feedConn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &subscriber{p: p, conn: c, wake: make(chan struct{}, 1), prefixes: c.Subscriptions(), idle: true}
	s.snap.armed = true
	p.mu.Lock()
	p.subs[s] = struct{}{}
	p.mu.Unlock()

	var reader sync.WaitGroup
	reader.Go(func() { cancel(s.readSubscriptions()) })
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // frees a writer that waits for the peer
	err := s.write(ctx)
	stop()
	_ = c.Close()
	reader.Wait()
	p.leave(s)
	return err
}

// leave forgets a subscriber whose goroutines have ended.
func (p *Publisher) leave(s *subscriber) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subs, s)
	s.prefixes.Each(func(prefix []byte) {
		if rest, ok := nameOn(prefix); ok {
			p.routes.remove(rest, s)
		}
	})
	if s.held > 0 {
		p.o.Metrics.Subscribers.Dec()
	}
	for i, w := range p.waiting {
		if w == s {
			last := len(p.waiting) - 1
			p.waiting[i], p.waiting[last] = p.waiting[last], nil
			p.waiting = p.waiting[:last]
			break
		}
	}
	p.noteIdle()
}

// readSubscriptions follows what the peer subscribes to until the
// connection ends.
func (s *subscriber) readSubscriptions() error {
	for {
		f, err := s.conn.Read()
		if err != nil {
			return err
		}
		switch f.Kind {
		case zmtp.Subscribe:
			if err := s.subscribe(f.Body); err != nil {
				return err
			}
		case zmtp.Cancel:
			s.cancel(f.Body)
		case zmtp.Message, zmtp.Oversize: // subscribers have nothing to say
		}
	}
}

func (s *subscriber) subscribe(prefix []byte) error {
	s.subsMu.Lock()
	first, err := s.prefixes.Add(prefix)
	if first {
		s.built = nil
	}
	s.subsMu.Unlock()
	if !first || err != nil {
		return err
	}
	p := s.p
	now := p.clock.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.held++; s.held == 1 {
		p.o.Metrics.Subscribers.Inc()
	}
	if rest, ok := nameOn(prefix); ok {
		p.routes.add(rest, s)
		return nil // the trie wakes it
	}
	if coversUpdates(prefix) {
		s.all++
	}
	if related(prefix, wire.SnapshotPrefix) {
		if s.snaps++; s.snaps == 1 {
			s.snap.turn = p.snaps.turn
		}
		if s.snap.armed {
			s.snap.armed, s.snap.wanted, s.snap.asked = false, true, p.window.batch
		}
	}
	if related(prefix, wire.HeartbeatPrefix) {
		if s.beats++; s.beats == 1 { // at once, so that it knows where it begins
			s.beatNow = true
		}
	}
	s.rise(now)
	return nil
}

func (s *subscriber) cancel(prefix []byte) {
	s.subsMu.Lock()
	last := s.prefixes.Remove(prefix)
	if last {
		s.built = nil
	}
	s.subsMu.Unlock()
	if !last {
		return
	}
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.held--; s.held == 0 {
		p.o.Metrics.Subscribers.Dec()
	}
	if rest, ok := nameOn(prefix); ok {
		p.routes.remove(rest, s)
		return
	}
	if coversUpdates(prefix) {
		s.all--
	}
	if related(prefix, wire.SnapshotPrefix) {
		s.snaps--
		s.snap.armed = true
	}
	if related(prefix, wire.HeartbeatPrefix) {
		s.beats--
	}
}

// matcher gives the prefixes as they are now.
func (s *subscriber) matcher() *matcher {
	s.subsMu.Lock()
	defer s.subsMu.Unlock()
	if s.built == nil {
		set := make([][]byte, 0, s.prefixes.Len())
		s.prefixes.Each(func(p []byte) { set = append(set, bytes.Clone(p)) })
		s.built = newMatcher(set)
	}
	return s.built
}

// rise ends idling: the cursor stands where the window ends now. The writer
// is woken in any case. Publisher.mu is held.
func (s *subscriber) rise(now time.Time) {
	s.stand(now)
	s.poke()
}

// stand is rise without waking the writer.
func (s *subscriber) stand(now time.Time) {
	if s.idle {
		w := &s.p.window
		s.idle, s.next, s.idx, s.after, s.since = false, w.next, 0, w.head, now
	}
}

// poke wakes the writer, now or when it comes to wait.
func (s *subscriber) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// lag gives how far it is behind. Publisher.mu is held.
func (s *subscriber) lag(now, wall time.Time) time.Duration {
	if s.idle || s.sending == 0 {
		return 0
	}
	return max(0, min(wall.Sub(s.sending.Time()), now.Sub(s.since)))
}

// skipReport is what a subscriber was not sent, until a heartbeat tells it.
type skipReport struct{ from, to, updates uint64 }

func (r *skipReport) add(from, to, updates uint64) {
	if r.updates == 0 && r.to == 0 {
		r.from = from
	}
	r.from, r.to, r.updates = min(r.from, from), max(r.to, to), r.updates+updates
}
