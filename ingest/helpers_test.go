package ingest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tbhist/internal/zmtp"
	"tbhist/metrics"
	"tbhist/thing"
)

func TestMain(m *testing.M) {
	// zmq4's PUB socket, which a test uses as a peer, never ends this one.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/go-zeromq/zmq4.(*pubMWriter).run"))
}

// patience is for each thing that must happen; it is never waited for in full
// unless the test fails.
const patience = time.Minute

// bench is an Ingest with what a test looks at.
type bench struct {
	*Ingest
	t   testing.TB
	ctx context.Context
	m   *metrics.Metrics
	log *logBook
}

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	b := &bench{t: t, log: &logBook{}}
	b.m = metrics.New(metrics.Options{
		Transports: TransportNames(), RefuseReasons: ReasonCodes(),
		Listeners: []string{"input", "udp"}, ConnReasons: []string{"not_allowed"},
	})
	o.Metrics = b.m.Ingest
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(b.log, nil))
	}
	b.Ingest = New(o)
	var cancel context.CancelFunc
	b.ctx, cancel = context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return b
}

// zmq serves the ZeroMQ input until the test ends, and gives its address.
func (b *bench) zmq(limits zmtp.Limits) string {
	b.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	l := zmtp.NewListener(ln, zmtp.ListenerOptions{Name: "input", Role: zmtp.Sub, Limits: limits}, b.ServeZMQ)
	b.background(l.Run)
	return ln.Addr().String()
}

// publisher dials the ZeroMQ input and waits to be subscribed to.
func (b *bench) publisher(addr string) *zmtp.Conn {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	c, err := zmtp.Dial(ctx, addr, zmtp.DialOptions{Role: zmtp.Pub})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	f, err := c.Read()
	if err != nil || f.Kind != zmtp.Subscribe || len(f.Body) != 0 {
		b.t.Fatalf("the input began with %v %q, %v; want a subscription to everything", f.Kind, f.Body, err)
	}
	return c
}

// udp serves the UDP input until the test ends, and gives a socket that
// sends to it.
func (b *bench) udp() *net.UDPConn {
	b.t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() }) // after the reader has ended
	b.background(func(ctx context.Context) error { return b.ServeUDP(ctx, conn) })
	out, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: conn.LocalAddr().(*net.UDPAddr).Port})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = out.Close() })
	return out
}

// background runs f until the test ends, and then waits for its end.
func (b *bench) background(f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("ended with %v", err)
		}
	})
}

// take calls each with the next n updates.
func (b *bench) take(n int, each func(i int, u *thing.Update)) {
	b.t.Helper()
	for i := 0; i < n; {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		batch, err := b.Next(ctx, 0)
		cancel()
		if err != nil {
			b.t.Fatalf("after %d of %d updates: %v", i, n, err)
		}
		if len(batch.Updates) == 0 {
			b.t.Fatal("an empty batch")
		}
		for j := range batch.Updates {
			each(i, &batch.Updates[j])
			i++
		}
		b.Release(batch)
	}
}

// one takes one update and shows it.
func (b *bench) one() string {
	b.t.Helper()
	var s string
	b.take(1, func(_ int, u *thing.Update) { s = show(u) })
	return s
}

func show(u *thing.Update) string {
	doc := "null"
	if u.Doc != nil {
		doc = string(u.Doc)
	}
	return fmt.Sprintf("%q %s %s %v from %v/%v", string(u.Name), u.Data, doc, u.TS, u.Source.Addr, u.Source.Transport)
}

// wait waits until a condition holds that nothing tells about.
func (b *bench) wait(what string, cond func() bool) {
	b.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-late.C:
			b.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// held tells whether an input waits for space.
func (b *bench) held() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.space != nil
}

// count reads a counter; labels are name=value, all of them.
func (b *bench) count(name string, labels ...string) float64 {
	b.t.Helper()
	families, err := b.m.Registry.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matching := 0
			for _, l := range m.GetLabel() {
				for _, want := range labels {
					if l.GetName()+"="+l.GetValue() == want {
						matching++
					}
				}
			}
			if matching == len(labels) {
				return m.GetCounter().GetValue()
			}
		}
	}
	b.t.Fatalf("no counter %s %v", name, labels)
	return 0
}

func (b *bench) refusedBy(transport thing.Transport, reason thing.Reason) float64 {
	b.t.Helper()
	return b.count("tbhist_updates_refused_total", "transport="+transport.String(), "reason="+reason.String())
}

// feed hands messages over as one burst of a source.
func (b *bench) feed(source *thing.Source, messages ...string) bool {
	burst := newBurst(b.o.Limits)
	burst.received = thing.MicrosOf(b.o.Now())
	for _, m := range messages {
		b.decode(burst, []byte(m), source)
	}
	return b.handOver(b.ctx, burst, source.Transport)
}

func update(ns, data string) string {
	return fmt.Sprintf(`{"type": "thing_update", "ns": %q, "data": %s, "ts": 5.0, "documentation_url": null}`, ns, data)
}

// logBook collects log lines.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines gives what was logged since the last call.
func (l *logBook) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.TrimSpace(l.b.String())
	l.b.Reset()
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
