package publish

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/metrics"
	"tbhist/thing"
)

// enough bounds every wait of a test; it is reached only when it fails.
const enough = 60 * time.Second

// rig is a publisher with its neighbours, and the pipeline before it.
type rig struct {
	*Publisher
	t testing.TB
	h *fakeHistory
	d *fakeDirectory

	mu     sync.Mutex
	now    time.Time     // goes on evenly
	step   time.Duration // what the time of day is ahead of it
	alarms map[*alarm]struct{}
	pipe   sync.Mutex // held by the pipeline
	count  int        // updates sent
}

type alarm struct {
	at time.Time
	f  func()
}

func newRig(t testing.TB, o Options) *rig {
	r := &rig{t: t, h: newFakeHistory(), d: newFakeDirectory(), now: time.Unix(1_700_000_000, 0), alarms: map[*alarm]struct{}{}}
	o.Store = r.h
	o.Directory = Directory{Snapshot: r.d.snapshot, Walk: r.d.walk}
	o.Now = r.clockWall
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	o.Metrics = metrics.NewPublish(nil)
	r.Publisher = New(o)
	r.Publisher.clock = clock{wall: r.clockWall, now: r.clockNow, after: r.clockAfter}
	return r
}

func (r *rig) clockNow() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// clockWall is the time of day.
func (r *rig) clockWall() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.Add(r.step)
}

// set sets the time of day, which passes no time.
func (r *rig) set(to time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step = to.Sub(r.now)
}

func (r *rig) clockAfter(d time.Duration, f func()) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &alarm{at: r.now.Add(d), f: f}
	r.alarms[a] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.alarms, a)
	}
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	r.now = r.now.Add(d)
	var due []func()
	for a := range r.alarms {
		if !a.at.After(r.now) {
			due = append(due, a.f)
			delete(r.alarms, a)
		}
	}
	r.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// batch makes updates of the Things named, received now; the data counts.
func (r *rig) batch(names ...thing.Name) []thing.Update {
	now := thing.MicrosOf(r.clockWall())
	b := make([]thing.Update, len(names))
	for i, n := range names {
		r.count++
		b[i] = thing.Update{Name: n, Data: fmt.Appendf(nil, `{"n":%d}`, r.count), TS: now.Seconds(), Received: now}
	}
	return b
}

// publish sends updates of the Things named through the pipeline.
func (r *rig) publish(names ...thing.Name) {
	r.pipe.Lock()
	defer r.pipe.Unlock()
	b := r.batch(names...)
	r.h.keep(b)
	r.d.apply(b, r.NextPosition())
	r.Publish(b)
}

// publishUnkept sends updates that the disk refused.
func (r *rig) publishUnkept(names ...thing.Name) {
	r.pipe.Lock()
	defer r.pipe.Unlock()
	b := r.batch(names...)
	r.d.apply(b, r.NextPosition())
	r.Publish(b)
}

// value reads a counter or a gauge.
func (r *rig) value(m prometheus.Metric) int {
	r.t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		r.t.Fatal(err)
	}
	return int(d.GetCounter().GetValue() + d.GetGauge().GetValue())
}

// fakeConn is a connection whose peer takes what the test lets it.
type fakeConn struct {
	t    testing.TB
	subs *zmtp.Subscriptions
	in   chan zmtp.Frame
	gone chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	shut    bool   // nothing is taken
	credit  int    // writes until it is shut; 0 for none
	stuck   bool   // a writer waits for the peer
	noFlush bool   // Flush waits, too
	partial []byte // of the next frame
	bodies  [][]byte
	flushed int // of bodies
	closed  bool
}

func newFakeConn(t testing.TB) *fakeConn {
	c := &fakeConn{t: t, subs: zmtp.NewSubscriptions(zmtp.Limits{}), in: make(chan zmtp.Frame), gone: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	return c
}

func (c *fakeConn) Subscriptions() *zmtp.Subscriptions { return c.subs }
func (c *fakeConn) Remote() netip.AddrPort             { return netip.AddrPort{} }

func (c *fakeConn) Read() (zmtp.Frame, error) {
	select {
	case f := <-c.in:
		return f, nil
	case <-c.gone:
		return zmtp.Frame{}, io.EOF
	}
}

func (c *fakeConn) Write(framed ...[]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.shut && !c.closed {
		c.stuck = true
		c.changed.Broadcast()
		c.changed.Wait()
	}
	c.stuck = false
	if c.credit > 0 {
		c.credit--
		c.shut = c.credit == 0
	}
	if c.closed {
		return net.ErrClosed
	}
	for _, f := range framed {
		c.partial = append(c.partial, f...)
	}
	for {
		head, size := 2, 0
		if len(c.partial) >= 2 {
			size = int(c.partial[1])
			if c.partial[0]&2 != 0 && len(c.partial) >= 9 {
				head, size = 9, int(binary.BigEndian.Uint64(c.partial[1:]))
			}
		}
		if len(c.partial) < head+size || len(c.partial) < 2 {
			return nil
		}
		c.bodies = append(c.bodies, append([]byte(nil), c.partial[head:head+size]...))
		c.partial = c.partial[head+size:]
	}
}

func (c *fakeConn) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.noFlush && !c.closed {
		c.stuck = true
		c.changed.Broadcast()
		c.changed.Wait()
	}
	c.flushed = len(c.bodies)
	c.changed.Broadcast()
	return nil
}

func (c *fakeConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.gone)
		c.changed.Broadcast()
	}
	return nil
}

// open lets the peer take, or keeps it from taking.
func (c *fakeConn) open(open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut, c.credit = !open, 0
	c.changed.Broadcast()
}

// allow lets the peer take so many writes, and waits until there is one more.
func (c *fakeConn) allow(writes int) {
	c.t.Helper()
	c.mu.Lock()
	c.shut, c.credit, c.stuck = false, writes, false
	c.changed.Broadcast()
	c.mu.Unlock()
	c.untilStuck()
}

// until waits for a condition of the connection.
func (c *fakeConn) until(what string, cond func() bool) {
	c.t.Helper()
	timeout := time.AfterFunc(enough, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.t.Errorf("waited in vain: %s (%d messages, %d flushed)", what, len(c.bodies), c.flushed)
		c.shut = false
		c.changed.Broadcast()
	})
	defer timeout.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !cond() {
		if c.t.Failed() {
			c.t.FailNow()
		}
		c.changed.Wait()
	}
}

func (c *fakeConn) untilStuck() {
	c.t.Helper()
	c.until("a writer that waits", func() bool { return c.stuck })
}

// take waits for n more flushed messages and gives them.
func (c *fakeConn) take(n int) []wire.Message {
	c.t.Helper()
	c.until(fmt.Sprintf("%d messages", n), func() bool { return c.flushed >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.bodies[:n]
	c.bodies, c.flushed = c.bodies[n:], c.flushed-n
	msgs := make([]wire.Message, n)
	for i, b := range taken {
		m, err := wire.ParseMessage(b)
		if err != nil {
			c.t.Fatalf("message %q: %v", b, err)
		}
		msgs[i] = m
	}
	return msgs
}

// none asserts that nothing was sent that was not taken.
func (c *fakeConn) none() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.bodies {
		c.t.Errorf("sent unexpectedly: %.200q", b)
	}
}

// served is a served fake connection.
type served struct {
	*fakeConn
	done chan error
}

// serve serves a fake connection that has subscribed.
func (r *rig) serve(prefixes ...string) *served {
	s := &served{fakeConn: newFakeConn(r.t), done: make(chan error, 1)}
	go func() { s.done <- r.serveFeed(context.Background(), s.fakeConn) }()
	r.t.Cleanup(func() {
		_ = s.Close()
		select {
		case err := <-s.done:
			r.t.Log("a subscriber ended:", err)
		case <-time.After(enough):
			r.t.Error("a subscriber that does not end")
		}
	})
	for _, p := range prefixes {
		s.subscribe(p)
	}
	return s
}

// leave closes the connection and waits until that was noticed.
func (s *served) leave() {
	s.t.Helper()
	_ = s.Close()
	select {
	case err := <-s.done:
		s.done <- err // for the end of the test
	case <-time.After(enough):
		s.t.Fatal("a subscriber that does not end")
	}
}

// subscribe returns when the subscription is in force.
func (s *served) subscribe(prefix string) { s.send(zmtp.Subscribe, prefix) }
func (s *served) cancel(prefix string)    { s.send(zmtp.Cancel, prefix) }

func (s *served) send(kind zmtp.Kind, prefix string) {
	// The reader comes back for the next frame when it has done with this.
	for _, f := range []zmtp.Frame{{Kind: kind, Body: []byte(prefix)}, {Kind: zmtp.Message}} {
		select {
		case s.in <- f:
		case <-time.After(enough):
			s.t.Fatal("a reader that does not read")
		}
	}
}

// cursor gives where a subscriber stands.
func (r *rig) cursor(of *served) (c struct {
	idle        bool
	next, after uint64
	since       time.Time
},
) {
	r.Publisher.mu.Lock()
	defer r.Publisher.mu.Unlock()
	for s := range r.subs {
		if s.conn == feedConn(of.fakeConn) {
			c.idle, c.next, c.after, c.since = s.idle, s.next, s.after, s.since
		}
	}
	return c
}

// idle waits until the subscriber has all there is.
func (r *rig) idle() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		r.t.Fatalf("subscribers do not catch up: %v", err)
	}
}

func seqs(msgs []wire.Message) []uint64 {
	var s []uint64
	for _, m := range msgs {
		s = append(s, m.Update.Seq)
	}
	return s
}

// wantSeqs checks that the messages are the updates from..to.
func wantSeqs(t testing.TB, msgs []wire.Message, from, to uint64) {
	t.Helper()
	if uint64(len(msgs)) != to-from+1 {
		t.Fatalf("%d messages, want seq %d to %d", len(msgs), from, to)
	}
	for i, m := range msgs {
		if m.Kind != wire.KindUpdate || m.Update.Seq != from+uint64(i) {
			t.Fatalf("message %d is of kind %d with seq %d, want update %d", i, m.Kind, m.Update.Seq, from+uint64(i))
		}
	}
}

func withTimeout(t testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	t.Cleanup(cancel)
	return ctx, cancel
}

// yieldTurn lets others run.
func yieldTurn() { runtime.Gosched() }
