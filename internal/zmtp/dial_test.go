package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestDialRefusals(t *testing.T) {
	for _, addr := range []string{"", "localhost", ":5", "localhost:", "udp://localhost:5", "ipc:///tmp/x"} {
		if _, err := Dial(t.Context(), addr, DialOptions{Role: Sub}); err == nil || !strings.Contains(err.Error(), "taken") {
			t.Errorf("address %q: %v", addr, err)
		}
	}
	tl := listen(t, ListenerOptions{Role: Router}, serveRole(Router, nil))
	var fault *PeerError
	if _, err := Dial(t.Context(), tl.addr, DialOptions{Role: Sub}); !errors.As(err, &fault) || fault.Reason != refusedSocketType && fault.Reason != refusedHandshake {
		t.Errorf("SUB to ROUTER: %v", err)
	}
	c, err := Dial(t.Context(), "tcp://"+tl.addr, DialOptions{Role: Dealer, Identity: "me"})
	if err != nil {
		t.Fatal(err)
	}
	if c.PeerRole() != "ROUTER" || c.Remote().String() != tl.addr {
		t.Errorf("%s at %v", c.PeerRole(), c.Remote())
	}
	_ = c.Close()
}

// A listener that says nothing is given up at the handshake deadline, and
// at once when the context ends.
func TestDialSilent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	o := DialOptions{Role: Req, Limits: Limits{Handshake: 50 * time.Millisecond}}
	var fault *PeerError
	if _, err := Dial(t.Context(), ln.Addr().String(), o); !errors.As(err, &fault) || fault.Reason != refusedHandshake {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	o.Limits.Handshake = time.Hour
	if _, err := Dial(ctx, ln.Addr().String(), o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// What a publisher sends right after the first subscription has come is not
// lost.
func TestPubDialer(t *testing.T) {
	got := make(chan string, 10)
	tl := listen(t, ListenerOptions{Role: Sub}, serveRole(Sub, func(_ *Conn, f Frame) { got <- string(f.Body) }))
	c, err := Dial(t.Context(), tl.addr, DialOptions{Role: Pub})
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Read()
	if err != nil || f.Kind != Subscribe || len(f.Body) != 0 {
		t.Fatalf("kind %d, %q, %v", f.Kind, f.Body, err)
	}
	for i := range 3 {
		if err := c.Write(message(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- c.Finish(deadlineContext(t)) }()
	for i := range 3 {
		if s := <-got; s != fmt.Sprint(i) {
			t.Errorf("%q", s)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSubDialer(t *testing.T) {
	tl := listen(t, ListenerOptions{Role: Pub}, serveRole(Pub, nil))
	c, err := Dial(t.Context(), tl.addr, DialOptions{Role: Sub})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, p := range []string{"a", "", strings.Repeat("long", 100)} {
		if err := c.Subscribe([]byte(p)); err != nil {
			t.Fatal(err)
		}
		if f, err := c.Read(); err != nil || string(f.Body) != p+"hello" {
			t.Fatalf("%q, %v", f.Body, err)
		}
		if err := c.Cancel([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// A request that is given up closes its connection.
func TestRequestGivenUp(t *testing.T) {
	tl := listen(t, ListenerOptions{Role: Router}, func(ctx context.Context, _ *Conn) { <-ctx.Done() })
	c, err := Dial(t.Context(), tl.addr, DialOptions{Role: Dealer})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Request(ctx, c, []byte("question")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if c.Context().Err() == nil {
		t.Error("the connection is still open")
	}
}

// The dialer comes back when the listener does, and ends as it is told.
func TestDialerReconnects(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	serve := serveRole(Router, nil)
	run := func(ln net.Listener) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		l := NewListener(ln, ListenerOptions{Role: Router}, serve)
		go func() { done <- l.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stop := run(ln)
	answered := make(chan int)
	d := Dialer{DialOptions: DialOptions{Role: Dealer}, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond}
	ended := errors.New("enough")
	result := make(chan error, 1)
	go func() {
		round := 0
		result <- d.Run(deadlineContext(t), func(int) (string, error) { return addr, nil }, func(ctx context.Context, c *Conn) error {
			if _, err := Request(ctx, c, []byte("q")); err != nil {
				return err
			}
			answered <- round
			if round++; round == 3 {
				return fmt.Errorf("round %d: %w", round, Permanent(ended))
			}
			_, err := c.Read() // until the listener is gone
			return err
		})
	}()
	for round := range 3 {
		if n := <-answered; n != round {
			t.Fatalf("answer %d came in round %d", n, round)
		}
		stop()
		if round == 2 {
			break
		}
		wait(t, "the port is free again", func() bool {
			ln, err = net.Listen("tcp", addr)
			return err == nil
		})
		stop = run(ln)
	}
	if err := <-result; !errors.Is(err, ended) {
		t.Errorf("Run gave %v", err)
	}
}

func TestDialerEnds(t *testing.T) {
	d := Dialer{DialOptions: DialOptions{Role: Sub}, MinBackoff: time.Millisecond}
	broken := errors.New("no such zone")
	attempts := 0
	err := d.Run(t.Context(), func(attempt int) (string, error) {
		if attempt != attempts {
			t.Errorf("attempt %d is called %d", attempts, attempt)
		}
		if attempts++; attempts == 4 {
			return "", Permanent(broken)
		}
		return "", broken
	}, nil)
	if !errors.Is(err, broken) || attempts != 4 {
		t.Errorf("%v after %d attempts", err, attempts)
	}

	// The end of the context ends a use that waits for its peer.
	tl := listen(t, ListenerOptions{Role: Pub}, serveRole(Pub, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = d.Run(ctx, func(int) (string, error) { return tl.addr, nil }, func(_ context.Context, c *Conn) error {
		cancel()
		_, err := c.Read()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestBackoff(t *testing.T) {
	b := (&Dialer{}).backoff()
	if b.Lowest != defaultMinBackoff || b.Highest != defaultMaxBackoff {
		t.Errorf("%v to %v", b.Lowest, b.Highest)
	}
	if b = (&Dialer{MinBackoff: time.Minute}).backoff(); b.Lowest != time.Minute || b.Highest != time.Minute {
		t.Errorf("%v to %v", b.Lowest, b.Highest)
	}
}

func TestListenerHeartbeat(t *testing.T) {
	tl := listen(t, ListenerOptions{Role: Router, Heartbeat: 20 * time.Millisecond}, serveRole(Router, nil))
	silent := shake(t, tl.addr, "REQ", 1)
	old := shake(t, tl.addr, "REQ", 0) // knows no PING, and is sent none
	if flags, body := silent.frame(); flags != flagCommand || string(body) != "\x04PING\x00\x01" {
		t.Errorf("%d %q", flags, body)
	}
	silent.closed("does not answer")
	check(old, Router)
}
