package client

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// fakeBroker is a broker whose every answer the test decides.
type fakeBroker struct {
	t    *testing.T
	port int
	// answer answers requests; nil answers nothing, and no frames end the
	// connection.
	answer func(r *wire.Request) [][]byte
	// input gets what is sent to the input.
	input chan []byte

	mu       sync.Mutex // guards what follows
	prefixes []string   // that were subscribed to, in order; those given up after "-"
	feeds    []*zmtp.Conn
	changed  chan struct{}
}

// newFake listens on the ports that a broker has, HTTP excepted.
func newFake(t *testing.T, answer func(r *wire.Request) [][]byte) *fakeBroker {
	t.Helper()
	f := &fakeBroker{t: t, answer: answer, input: make(chan []byte, 16), changed: make(chan struct{})}
	listeners := openPorts(t)
	f.port = listeners[0].Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i, part := range []struct {
		role  zmtp.Role
		serve func(context.Context, *zmtp.Conn)
	}{{zmtp.Pub, f.serveFeed}, {zmtp.Sub, f.serveInput}, {zmtp.Router, f.serveHistory}} {
		l := zmtp.NewListener(listeners[i], zmtp.ListenerOptions{
			Name: string(part.role), Role: part.role, Limits: zmtp.Limits{MaxFrame: 2 << 20, MaxMessage: 3 << 20},
		}, part.serve)
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return f
}

func openPorts(t *testing.T) []net.Listener {
	t.Helper()
	for range 100 {
		var all []net.Listener
		port := 0
		for offset := range 3 {
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				break
			}
			all = append(all, ln)
			port = all[0].Addr().(*net.TCPAddr).Port + offset + 1 //nolint:forcetypeassert // it is TCP
		}
		if len(all) == 3 {
			return all
		}
		for _, ln := range all {
			_ = ln.Close()
		}
	}
	t.Fatal("no free ports in a row")
	return nil
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

func (f *fakeBroker) serveFeed(_ context.Context, c *zmtp.Conn) {
	f.mu.Lock()
	f.feeds = append(f.feeds, c)
	f.mu.Unlock()
	for {
		frame, err := c.Read()
		if err != nil {
			return
		}
		if frame.Kind == zmtp.Subscribe || frame.Kind == zmtp.Cancel {
			prefix := string(frame.Body)
			if frame.Kind == zmtp.Cancel {
				prefix = "-" + prefix
			}
			f.mu.Lock()
			f.prefixes = append(f.prefixes, prefix)
			close(f.changed)
			f.changed = make(chan struct{})
			f.mu.Unlock()
		}
	}
}

func (f *fakeBroker) serveInput(_ context.Context, c *zmtp.Conn) {
	for {
		frame, err := c.Read()
		if err != nil {
			return
		}
		f.input <- bytes.Clone(frame.Body)
	}
}

func (f *fakeBroker) serveHistory(_ context.Context, c *zmtp.Conn) {
	for {
		envelope, body, err := zmtp.ReadRequest(c)
		if err != nil {
			return
		}
		r, err := wire.ParseRequest(body[0])
		if err != nil {
			f.t.Errorf("a request that no broker takes: %s: %v", body[0], err)
			return
		}
		frames := f.answer(r)
		if frames != nil && len(frames) == 0 {
			return // which ends the connection
		}
		if frames != nil {
			if err := zmtp.WriteReply(c, envelope, frames...); err != nil {
				return
			}
		}
	}
}

// awaitSubscribed waits until there were so many subscriptions.
func (f *fakeBroker) awaitSubscribed(n int) []string {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		prefixes, changed := slices.Clone(f.prefixes), f.changed
		f.mu.Unlock()
		if len(prefixes) >= n {
			return prefixes
		}
		select {
		case <-changed:
		case <-deadline:
			f.t.Fatalf("%d subscriptions came: %q", len(prefixes), prefixes)
		}
	}
}

// publish sends messages on all feeds.
func (f *fakeBroker) publish(msgs ...[]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.feeds {
		for _, m := range msgs {
			if c.Write(zmtp.AppendFrame(nil, m, false)) != nil {
				return // the client has gone
			}
		}
		_ = c.Flush() // likewise
	}
}

// cut ends all feeds.
func (f *fakeBroker) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.feeds {
		_ = c.Close()
	}
}

func (f *fakeBroker) client() *Client {
	f.t.Helper()
	c, err := New(Options{Broker: "127.0.0.1:" + strconv.Itoa(f.port), DialTimeout: patience})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// update makes the update of a seq, of a Thing for itself.
func update(seq uint64) Update {
	return Update{
		Name: "shop.door", Data: []byte(strconv.FormatUint(seq, 10)), TS: float64(seq),
		Received: thing.Micros(seq * 1e6), Seq: seq, ThingSeq: seq,
	}
}

func updateLine(seq uint64) []byte {
	u := update(seq)
	return wire.AppendUpdate(nil, &u)
}

func heartbeatLine(h wire.Heartbeat) []byte {
	if h.Epoch == "" {
		h.Epoch = "e1"
	}
	return wire.AppendHeartbeat(nil, h)
}

// page makes an answer with the updates from first to last.
func replayPage(first, last, head uint64, change func(*wire.PageHead)) [][]byte {
	h := wire.PageHead{Type: wire.TypeReplayPage, Epoch: "e1", Head: head, EvictedExact: true}
	var body []byte
	for seq := first; seq <= last; seq++ {
		body = append(append(body, updateLine(seq)...), '\n')
		h.Count++
	}
	if change != nil {
		change(&h)
	}
	return [][]byte{h.Append(nil), body}
}
