package adapt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// source publishes what a test says, to whoever has subscribed.
type source struct {
	t    *testing.T
	addr string
	stop func()

	mu      sync.Mutex // guards what follows
	conns   []*zmtp.Conn
	changed chan struct{} // closed, and made anew, with each connection
}

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{t: t, changed: make(chan struct{})}
	s.listen("127.0.0.1:0")
	t.Cleanup(func() { s.stop() })
	return s
}

// listen serves; a connection counts when it has subscribed to heartbeats or
// to everything, which comes last.
func (s *source) listen(addr string) {
	s.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	l := zmtp.NewListener(ln, zmtp.ListenerOptions{Name: "source", Role: zmtp.Pub}, func(_ context.Context, c *zmtp.Conn) {
		for {
			f, err := c.Read()
			if err != nil {
				return
			}
			if f.Kind == zmtp.Subscribe && (len(f.Body) == 0 || string(f.Body) == wire.HeartbeatPrefix) {
				s.mu.Lock()
				s.conns = append(s.conns, c)
				close(s.changed)
				s.changed = make(chan struct{})
				s.mu.Unlock()
			}
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	s.stop = func() {
		s.stop = func() {}
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}
}

// again is a restart.
func (s *source) again() {
	s.stop()
	s.mu.Lock()
	s.conns = nil
	s.mu.Unlock()
	s.listen(s.addr)
}

// publish waits for a subscriber and sends it one message.
func (s *source) publish(frames ...string) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		conns, changed := s.conns, s.changed
		s.mu.Unlock()
		if len(conns) > 0 {
			var framed []byte
			for i, f := range frames {
				framed = zmtp.AppendFrame(framed, []byte(f), i < len(frames)-1)
			}
			if err := errors.Join(conns[len(conns)-1].Write(framed), conns[len(conns)-1].Flush()); err != nil {
				s.t.Fatal(err)
			}
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatal("nobody subscribes")
		}
	}
}

// target is the broker to feed: its input, and a directory if it has one.
type target struct {
	t      *testing.T
	client *client.Client
	out    *client.Adaptor
	bridge *Bridge
	got    chan string
}

// newTarget listens for updates, and with a directory answers with its lines.
func newTarget(t *testing.T, directory func() []wire.Entry) *target {
	t.Helper()
	listeners := openPorts(t)
	port := listeners[0].Addr().(*net.TCPAddr).Port - client.InputOffset //nolint:forcetypeassert // it is TCP
	tg := &target{t: t, got: make(chan string, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	serve := func(ln net.Listener, role zmtp.Role, f func(context.Context, *zmtp.Conn)) {
		l := zmtp.NewListener(ln, zmtp.ListenerOptions{Name: string(role), Role: role}, f)
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	serve(listeners[0], zmtp.Sub, func(_ context.Context, c *zmtp.Conn) {
		for err := c.Subscribe(nil); err == nil; {
			var f zmtp.Frame
			if f, err = c.Read(); err == nil {
				tg.got <- string(f.Body)
			}
		}
	})
	if directory == nil {
		deaden(t, listeners[1])
	} else {
		serve(listeners[1], zmtp.Router, func(_ context.Context, c *zmtp.Conn) {
			for {
				envelope, _, err := zmtp.ReadRequest(c)
				if err != nil {
					return
				}
				var body []byte
				entries := directory()
				for i := range entries {
					body = append(wire.AppendEntry(body, &entries[i]), '\n')
				}
				head := wire.PageHead{Type: wire.TypeDirectoryPage, Epoch: "e", Count: uint64(len(entries))}
				if zmtp.WriteReply(c, envelope, head.Append(nil), body) != nil {
					return
				}
			}
		})
	}
	var err error
	if tg.client, err = client.New(client.Options{Broker: fmt.Sprintf("127.0.0.1:%d", port)}); err != nil {
		t.Fatal(err)
	}
	if tg.out, err = tg.client.NewAdaptor(client.AdaptorOptions{}); err != nil {
		t.Fatal(err)
	}
	tg.bridge = NewBridge(tg.out, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() {
		ended, cancelClose := context.WithTimeout(context.Background(), patience)
		defer cancelClose()
		if err := tg.out.Close(ended); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
	})
	return tg
}

// openPorts gives an input's port and the history's after it.
func openPorts(t *testing.T) [2]net.Listener {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.Addr().(*net.TCPAddr).Port+1)) //nolint:forcetypeassert // it is TCP
		if err == nil {
			return [2]net.Listener{a, b}
		}
		_ = a.Close()
	}
	t.Fatal("no two free ports in a row")
	return [2]net.Listener{}
}

// deaden closes a listener. Nobody answers at its port then, and nobody else
// comes to listen there before the test ends: a connection begins at it.
func deaden(t *testing.T, ln net.Listener) {
	t.Helper()
	_ = ln.Close()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{LocalAddr: ln.Addr()}).Dial("tcp", other.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		_ = other.Close()
	})
}

// run runs a way in for as long as the test takes.
func (tg *target) run(way interface{ Run(context.Context) error }) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- way.Run(ctx) }()
	tg.t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			tg.t.Errorf("Run: %v", err)
		}
	})
}

func (tg *target) expect(ns, data, ts, doc string) {
	tg.t.Helper()
	want := fmt.Sprintf(`{"type": "thing_update", "ns": "%s", "documentation_url": %s, "data": %s, "ts": %s`, ns, doc, data, ts)
	select {
	case got := <-tg.got:
		if !strings.HasPrefix(got, want) {
			tg.t.Fatalf("got %s\nwant %s", got, want)
		}
	case <-time.After(patience):
		tg.t.Fatalf("nothing comes, not %s", want)
	}
}

// skipped waits until so many messages were skipped for a reason.
func (tg *target) skipped(r Reason, n uint64) {
	tg.t.Helper()
	tg.eventually(fmt.Sprintf("%d skipped as %s", n, r), func() bool { return tg.bridge.Sample().Skipped[r] >= n })
}

func (tg *target) eventually(what string, holds func() bool) {
	tg.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			tg.t.Fatalf("not %s: %s", what, tg.bridge.Summary())
		}
	}
}

func TestZMQ(t *testing.T) {
	one, two, tg := newSource(t), newSource(t), newTarget(t, nil)
	tg.run(&ZMQ{
		Sources: []string{"tcp://" + one.addr, two.addr}, Bridge: tg.bridge, Logger: slog.New(slog.DiscardHandler),
		Rules: Rules{NSKey: "k", TSKey: "t", Filters: []Filter{{"m", "1"}}, Projections: []string{"v"}},
	})
	one.publish(`{"k": "a", "t": 5, "m": 1, "v": {"x": NaN}}`)
	tg.expect("a", `{"v":{"x":null}}`, "5.0", "null")
	two.publish("topic", `{"k": "b", "t": 6.5, "m": "1", "v": 2}`)
	tg.expect("b", `{"v":2}`, "6.5", "null")
	for _, m := range []string{
		`{"m": 2}`, `{"m": 1}`, `[1]`, `{"m": 1, "k": "A", "t": 5, "v": 1}`, `{"m": 1, "k": "a", "t": "x", "v": 1}`,
		`"` + strings.Repeat("x", maxMessage) + `"`,
	} {
		one.publish(m)
	}
	for r, n := range map[Reason]uint64{ReasonNotJSON: 1, ReasonFilter: 1, ReasonKey: 1, ReasonNotObject: 1, ReasonNS: 1, ReasonTS: 1, ReasonTooLarge: 1} {
		tg.skipped(r, n)
	}
	one.again()
	one.publish(`{"k": "a", "t": 7, "m": 1, "v": 3}`)
	tg.expect("a", `{"v":3}`, "7.0", "null")
	tg.eventually("3 sent", func() bool { return tg.bridge.Sample().Sent == 3 })
	if got, want := tg.bridge.Summary(), "10 received, 3 sent, 7 skipped (1 filter, 1 not_json, 1 not_object, 1 key, 1 ns, 1 ts, 1 too_large)"; got != want {
		t.Errorf("the summary is %q, want %q", got, want)
	}
}

func feedLine(u thing.Update) string { return string(wire.AppendUpdate(nil, &u)) }

func snapshotLine(entries ...wire.Entry) string {
	b := wire.AppendSnapshotHead(nil, 0)
	for i := range entries {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = wire.AppendSnapshotEntry(b, &entries[i])
	}
	return string(wire.AppendSnapshotTail(b, 0, "s", 1, 1))
}

func entry(name thing.Name, ts float64, data string) wire.Entry {
	return wire.Entry{Update: thing.Update{Name: name, TS: ts, Data: []byte(data)}, Doc: []byte(`"d"`)}
}

func heartbeatLine(seq uint64) string {
	return string(wire.AppendHeartbeat(nil, wire.Heartbeat{Epoch: "s", Seq: seq}))
}

// Live updates pass as they are; of snapshots only what is newer than all
// that the broker has.
func TestThingsbus(t *testing.T) {
	src := newSource(t)
	tg := newTarget(t, func() []wire.Entry { return []wire.Entry{entry("kept", 10, `1`), entry("older", 10, `1`)} })
	tg.run(&Thingsbus{Sources: []string{src.addr}, Bridge: tg.bridge, Target: tg.client, Logger: slog.New(slog.DiscardHandler)})

	src.publish(snapshotLine(entry("kept", 10, `1`), entry("older", 11, `2`), entry("silent", 3.5, `{"a": 1}`)))
	tg.expect("older", `2`, "11.0", `"d"`)
	tg.expect("silent", `{"a":1}`, "3.5", `"d"`)
	src.publish(heartbeatLine(7))
	src.publish(feedLine(thing.Update{Name: "live", Data: []byte(`1`), TS: 5, Seq: 8, Doc: []byte(`"x"`)}))
	tg.expect("live", `1`, "5.0", `"x"`)
	// Its documentation URL is that of the message, also when there is none.
	src.publish(feedLine(thing.Update{Name: "live", Data: []byte(`2`), TS: 4, Seq: 9}))
	tg.expect("live", `2`, "4.0", "null")
	src.publish(feedLine(thing.Update{Name: "live", Data: []byte(`2`), TS: 4, Seq: 10}))
	tg.skipped(ReasonKnown, 1)
	src.publish(snapshotLine(entry("live", 4, `2`), entry("silent", 3.5, `{"a": 1}`), entry("", 1, `0`)))
	tg.expect("", `0`, "1.0", `"d"`)

	// A restart: what was missed is counted, and the newest of it comes with
	// the snapshot.
	src.again()
	src.publish(snapshotLine(entry("live", 9, `9`), entry("kept", 10, `1`)))
	tg.expect("live", `9`, "9.0", `"d"`)
	src.publish(heartbeatLine(15))
	tg.skipped(ReasonMissed, 5)
	src.publish(`{"type": "thing_update", "ns": "Bad", "data": 1, "ts": 1}`)
	tg.skipped(ReasonInvalid, 1)
	src.publish(feedLine(thing.Update{Name: "live", Data: []byte(`10`), TS: 10, Seq: 16}))
	tg.expect("live", `10`, "10.0", "null")
	if n := tg.bridge.Sample().Skipped[ReasonMissed]; n != 5 {
		t.Errorf("%d are counted as missed", n)
	}
}

// A broker without a directory gets the silent Things all the same.
func TestThingsbusWithoutDirectory(t *testing.T) {
	src, tg := newSource(t), newTarget(t, nil)
	tg.run(&Thingsbus{Sources: []string{src.addr}, Name: "a", Bridge: tg.bridge, Target: tg.client, Logger: slog.New(slog.DiscardHandler)})
	src.publish(feedLine(thing.Update{Name: "a.live", Data: []byte(`1`), TS: 5, Seq: 8}))
	tg.expect("a.live", `1`, "5.0", "null")
	src.publish(snapshotLine(entry("a.silent", 3, `1`), entry("b", 3, `1`), entry("a", 4, `1`)))
	tg.expect("a.silent", `1`, "3.0", `"d"`)
	tg.expect("a", `1`, "4.0", `"d"`)
}
