package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/store"
	"tbhist/store/bolt"
	"tbhist/thing"
)

// broker is a publisher behind the real engine and real sockets.
type broker struct {
	*rig
	db            *bolt.DB
	feed, history string // addresses
}

func newBroker(t testing.TB, o Options, limits zmtp.Limits, rules ...store.Rule) *broker {
	t.Helper()
	r := newRig(t, o)
	b := &broker{rig: r}
	var err error
	b.db, err = bolt.Open(filepath.Join(t.TempDir(), "t.db"), bolt.Options{
		Rules: rules, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.db.Close(); err != nil {
			t.Error(err)
		}
	})
	r.Publisher.o.Store = b.db
	b.feed = b.listen(zmtp.Pub, limits, b.ServeFeed)
	LimitRequests(&limits)
	b.history = b.listen(zmtp.Router, limits, b.ServeHistory)
	return b
}

func (b *broker) listen(role zmtp.Role, limits zmtp.Limits, serve func(context.Context, *zmtp.Conn)) string {
	b.t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(b.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	l := zmtp.NewListener(ln, zmtp.ListenerOptions{Name: string(role), Role: role, Limits: limits}, serve)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	return ln.Addr().String()
}

// commit sends updates of the Things named through engine and publisher.
func (b *broker) commit(names ...thing.Name) {
	b.t.Helper()
	b.pipe.Lock()
	defer b.pipe.Unlock()
	committed, err := b.db.Append(b.t.Context(), b.batch(names...))
	if err != nil {
		b.t.Fatal(err)
	}
	b.d.apply(committed, b.NextPosition())
	b.Publish(committed)
}

// peer is a subscriber on a socket.
type peer struct {
	t testing.TB
	c *zmtp.Conn
}

func (b *broker) dial(addr string, role zmtp.Role) *zmtp.Conn {
	b.t.Helper()
	ctx, cancel := withTimeout(b.t)
	defer cancel()
	c, err := zmtp.Dial(ctx, addr, zmtp.DialOptions{Role: role, Limits: zmtp.Limits{MaxFrame: 8 << 20}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (b *broker) subscriber(prefixes ...string) *peer {
	b.t.Helper()
	p := &peer{t: b.t, c: b.dial(b.feed, zmtp.Sub)}
	for _, prefix := range prefixes {
		if err := p.c.Subscribe([]byte(prefix)); err != nil {
			b.t.Fatal(err)
		}
	}
	return p
}

// next gives the next message and its line.
func (p *peer) next() (wire.Message, string) {
	p.t.Helper()
	ctx, cancel := withTimeout(p.t)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = p.c.Close() })()
	f, err := p.c.Read()
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := wire.ParseMessage(f.Body)
	if err != nil {
		p.t.Fatalf("%q: %v", f.Body, err)
	}
	return m, string(f.Body)
}

func (p *peer) want(kinds ...wire.Kind) []wire.Message {
	p.t.Helper()
	var msgs []wire.Message
	for _, k := range kinds {
		m, line := p.next()
		if m.Kind != k {
			p.t.Fatalf("got %.200s, want kind %d", line, k)
		}
		msgs = append(msgs, m)
	}
	return msgs
}

func (b *broker) request(c *zmtp.Conn, frames ...string) (*wire.PageHead, []string, error) {
	b.t.Helper()
	ctx, cancel := withTimeout(b.t)
	defer cancel()
	reply, err := zmtp.Request(ctx, c, bytesOf(frames)...)
	if err != nil {
		b.t.Fatal(err)
	}
	return parseReply(b.t, reply)
}

func TestSockets(t *testing.T) {
	b := newBroker(t, Options{}, zmtp.Limits{})
	all, one := b.subscriber(""), b.subscriber(updateHead+`b"`, wire.HeartbeatPrefix)
	all.want(wire.KindSnapshot, wire.KindHeartbeat)
	one.want(wire.KindHeartbeat)
	var live []string
	for range 50 {
		b.commit("a", "b", "a.b")
	}
	for i := range 150 {
		m, line := all.next()
		if m.Update.Seq != uint64(i+1) {
			t.Fatalf("seq %d, want %d", m.Update.Seq, i+1)
		}
		live = append(live, line)
	}
	for i := range 50 {
		if m, line := one.next(); m.Update.Name != "b" || m.Update.ThingSeq != uint64(i+1) {
			t.Fatalf("got %s", line)
		}
	}
	dealer, req := b.dial(b.history, zmtp.Dealer), b.dial(b.history, zmtp.Req)
	for _, c := range []*zmtp.Conn{dealer, req} {
		head, lines, err := b.request(c, `{"type": "replay"}`)
		if err != nil || strings.Join(lines, "\n") != strings.Join(live, "\n") {
			t.Errorf("%d lines replayed are not the %d that were live: %v", len(lines), len(live), err)
		}
		if head.Head != 150 || head.Evicted != 0 || !head.EvictedExact || head.First != 1 || head.Last != 150 {
			t.Errorf("%+v", head)
		}
	}
	// Answers come in the order asked.
	for i := range 20 {
		if err := zmtp.SendRequest(dealer, fmt.Appendf(nil, `{"type": "replay", "limit": 1, "id": %d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		reply, err := zmtp.ReadReply(dealer)
		if err != nil {
			t.Fatal(err)
		}
		if head, _, err := parseReply(t, reply); err != nil || string(head.ID) != fmt.Sprint(i) {
			t.Errorf("answer %d: %+v %v", i, head, err)
		}
	}
	var e *wire.ErrorFrame
	if _, _, err := b.request(req, `{"type": "replay", "id": "`+strings.Repeat("x", MaxRequestBytes)+`"}`); !errors.As(err, &e) || e.Code != wire.CodeTooLarge {
		t.Errorf("too large a request: %v", err)
	}
	if _, _, err := b.request(req, `{"type": "replay"`, `}`); !errors.As(err, &e) || e.Code != wire.CodeBadRequest {
		t.Errorf("a request of two frames: %v", err)
	}
}

// Subscribe first, ask history until it is complete, then go on live: no
// hole and no double, while updates come.
func TestHistoryToLive(t *testing.T) {
	b := newBroker(t, small(), zmtp.Limits{})
	stop := make(chan struct{})
	var pipeline sync.WaitGroup
	pipeline.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				b.commit("a", "b", "a.b", "c")
			}
		}
	})
	defer pipeline.Wait()
	defer close(stop)
	for range 5 {
		p := b.subscriber(wire.HeartbeatPrefix)
		for _, prefix := range wire.Prefix("a", true) {
			if err := p.c.Subscribe(prefix); err != nil {
				t.Fatal(err)
			}
		}
		m, _ := p.next() // from here on everything comes
		for m.Kind != wire.KindUpdate {
			m, _ = p.next()
		}
		last := map[thing.Name]uint64{}
		see := func(u *thing.Update) {
			t.Helper()
			if u.ThingSeq != last[u.Name]+1 {
				t.Fatalf("%s: thing_seq %d behind %d", u.Name, u.ThingSeq, last[u.Name])
			}
			last[u.Name] = u.ThingSeq
		}
		c := b.dial(b.history, zmtp.Dealer)
		request, position := `{"type": "replay", "ns": "a", "page_bytes": 2000}`, uint64(0)
		for request != "" {
			head, lines, err := b.request(c, request)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				m, err := wire.ParseMessage([]byte(l))
				if err != nil {
					t.Fatal(err)
				}
				see(&m.Update)
				position = m.Update.Seq
			}
			if request = ""; head.Next != "" {
				request = fmt.Sprintf(`{"type": "replay", "page_bytes": 1000000, "cursor": %q}`, head.Next)
			}
		}
		for live := 0; live < 100; m, _ = p.next() {
			if m.Kind == wire.KindUpdate && m.Update.Seq > position {
				see(&m.Update)
				live++
			}
		}
		_ = p.c.Close()
	}
}

// A subscriber that reads at a fraction of the rate gets everything, from
// the engine.
func TestSlowSubscriberOnSocket(t *testing.T) {
	b := newBroker(t, small(), zmtp.Limits{})
	p := b.subscriber(everything, wire.HeartbeatPrefix)
	p.want(wire.KindHeartbeat)
	big := []byte(`"` + strings.Repeat("x", 20<<10) + `"`)
	const batches = 600 // 12 MiB: more than the sockets hold
	for i := range batches {
		b.pipe.Lock()
		batch := b.batch("a", "b")
		batch[0].Data = big
		committed, err := b.db.Append(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		b.d.apply(committed, b.NextPosition())
		b.Publish(committed)
		b.pipe.Unlock()
		if i%10 == 0 {
			if m, _ := p.next(); m.Update.Seq != uint64(i/10+1) {
				t.Fatalf("seq %d, want %d", m.Update.Seq, i/10+1)
			}
		}
	}
	for i := batches / 10; i < 2*batches; i++ {
		if m, _ := p.next(); m.Update.Seq != uint64(i+1) {
			t.Fatalf("seq %d, want %d", m.Update.Seq, i+1)
		}
	}
	if b.value(b.o.Metrics.FromHistory) == 0 {
		t.Error("nothing came from history: the test shows nothing")
	}
	if got := b.value(b.o.Metrics.Skipped); got != 0 {
		t.Errorf("%d were skipped", got)
	}
}

func TestThousandSubscribers(t *testing.T) {
	const n = 1000
	b := newBroker(t, Options{}, zmtp.Limits{})
	var peers []*peer
	var names []thing.Name
	for i := range n {
		name := thing.Name(fmt.Sprintf("sensors.t%d", i))
		names = append(names, name)
		peers = append(peers, b.subscriber(string(wire.Prefix(name, false)[0]), wire.SnapshotPrefix))
	}
	for _, p := range peers {
		p.want(wire.KindSnapshot)
	}
	if made := b.d.snapshotsMade(); made > 20 {
		t.Errorf("%d snapshots were made", made)
	}
	for range 3 {
		b.commit(names...)
	}
	for i, p := range peers {
		for k := range 3 {
			if m := p.want(wire.KindUpdate)[0]; m.Update.Name != names[i] || m.Update.ThingSeq != uint64(k+1) {
				t.Fatalf("subscriber %d got %q %d", i, m.Update.Name, m.Update.ThingSeq)
			}
		}
	}
	if got := b.value(b.o.Metrics.Subscribers); got != n {
		t.Errorf("%d subscribers", got)
	}
	if got := b.value(b.o.Metrics.Delivered); got != 3*n {
		t.Errorf("%d delivered", got)
	}
	for _, p := range peers {
		_ = p.c.Close()
	}
	b.until("everybody to be gone", func() bool { return len(b.subs) == 0 })
	if b.routes.held != 0 || b.value(b.o.Metrics.Subscribers) != 0 {
		t.Errorf("%d routes, %d subscribers are left", b.routes.held, b.value(b.o.Metrics.Subscribers))
	}
}

func TestReconnect(t *testing.T) {
	b := newBroker(t, Options{}, zmtp.Limits{})
	for i := range 20 {
		p := b.subscriber("")
		m := p.want(wire.KindSnapshot)[0]
		if m.Snapshot.Seq != uint64(i) {
			t.Fatalf("a snapshot at %d, want %d", m.Snapshot.Seq, i)
		}
		p.want(wire.KindHeartbeat)
		b.commit("a")
		if m := p.want(wire.KindUpdate)[0]; m.Update.Seq != uint64(i+1) {
			t.Fatalf("update %d, want %d", m.Update.Seq, i+1)
		}
		_ = p.c.Close()
		b.pass(2 * snapshotAgain)
	}
}

// Filtered skips over the real engine are counted exactly, too.
func TestMaxLagOverEngine(t *testing.T) {
	o := small()
	b := newBroker(t, o, zmtp.Limits{})
	s := b.serve(updateHead+`a"`, wire.HeartbeatPrefix)
	s.take(1)
	s.open(false)
	b.commit("a")
	s.untilStuck()
	for range 50 {
		b.commit(slices.Repeat([]thing.Name{"a", "b", "c"}, 10)...)
	}
	b.pass(2 * DefaultMaxLag)
	s.open(true)
	s.take(1)
	if h := s.take(1)[0].Heartbeat; h.Skipped != 500 || h.SkippedFrom != 2 || h.SkippedTo != 1501 {
		t.Errorf("%+v", h)
	}
}

func TestEvictedOverEngine(t *testing.T) {
	b := newBroker(t, small(), zmtp.Limits{}, store.Rule{Limit: store.Limit{Count: 50}})
	for _, prefix := range []string{everything, updateHead + `a"`} {
		t.Run(prefix, func(t *testing.T) {
			skipped0 := b.value(b.o.Metrics.Skipped)
			s := b.serve(prefix, wire.HeartbeatPrefix)
			s.take(1)
			s.open(false)
			b.commit("a")
			s.untilStuck()
			head := b.db.State().Head
			ten := slices.Repeat([]thing.Name{"a"}, 10)
			for range 100 {
				b.commit(ten...)
			}
			s.open(true)
			b.idle()
			skipped := uint64(b.value(b.o.Metrics.Skipped) - skipped0)
			last := head + skipped
			if skipped < 900 || skipped > 950 {
				t.Errorf("%d were counted as skipped", skipped)
			}
			s.take(1)
			for last < head+1000 {
				m := s.take(1)[0]
				if m.Kind == wire.KindHeartbeat {
					continue
				}
				if last++; m.Update.Seq != last {
					t.Fatalf("seq %d, want %d", m.Update.Seq, last)
				}
			}
			s.leave()
		})
	}
}

// Where the engine knows only a bound, no more is reported than there can
// have been.
func TestEvictedBound(t *testing.T) {
	b := newBroker(t, small(), zmtp.Limits{}, store.Rule{Limit: store.Limit{Count: 50}})
	mixed := slices.Repeat([]thing.Name{"a", "a", "a", "b"}, 25)
	for range 100 {
		b.commit(mixed...) // 7,450 of a are evicted before anybody is there
	}
	s := b.serve(updateHead+`a"`, wire.HeartbeatPrefix)
	s.take(1)
	s.open(false)
	b.commit("a")
	s.untilStuck()
	for range 10 {
		b.commit(mixed...)
	}
	s.open(true)
	b.idle()
	// 750 of a in a span of 1,000; the newest 75 are in the window.
	if got := b.value(b.o.Metrics.Skipped); got < 675 || got > 925 {
		t.Errorf("%d were counted as skipped", got)
	}
}
