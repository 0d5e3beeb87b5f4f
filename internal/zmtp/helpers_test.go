package zmtp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of a test; it is reached only when it fails.
const patience = time.Minute

// testListener is a running listener and what it reported.
type testListener struct {
	*Listener
	t    testing.TB
	addr string
	logs *lockedBuffer

	mu      sync.Mutex
	refused map[string]int
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
	w   io.Writer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = b.w.Write(p)
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// listen runs a listener on a loopback port until the test ends.
func listen(t testing.TB, o ListenerOptions, serve func(ctx context.Context, c *Conn)) *testListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listenOn(t, ln, o, serve)
}

func listenOn(t testing.TB, ln net.Listener, o ListenerOptions, serve func(ctx context.Context, c *Conn)) *testListener {
	t.Helper()
	tl := &testListener{t: t, addr: ln.Addr().String(), refused: map[string]int{}, logs: &lockedBuffer{w: t.Output()}}
	if o.Name == "" {
		o.Name = "test"
	}
	o.Logger = slog.New(slog.NewTextHandler(tl.logs, nil))
	o.Refused = func(reason string) {
		tl.mu.Lock()
		defer tl.mu.Unlock()
		tl.refused[reason]++
	}
	tl.Listener = NewListener(ln, o, serve)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tl.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run did not end")
		}
	})
	return tl
}

func (tl *testListener) count(reason string) int {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	return tl.refused[reason]
}

// wait waits until cond holds.
func wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
		<-tick.C
	}
}

// serveRole serves a connection as the broker's listener of that role does:
// a Pub sends "hello" to each new subscription, a Sub subscribes to
// everything and counts what comes through got, a Router echoes.
func serveRole(role Role, got func(c *Conn, f Frame)) func(context.Context, *Conn) {
	if got == nil {
		got = func(*Conn, Frame) {}
	}
	switch role {
	case Pub:
		return func(_ context.Context, c *Conn) {
			subs := c.Subscriptions()
			for {
				f, err := c.Read()
				if err != nil {
					return
				}
				got(c, f)
				if f.Kind == Cancel {
					subs.Remove(f.Body)
					continue
				}
				first, err := subs.Add(f.Body)
				if err != nil {
					return
				}
				if !first {
					continue
				}
				msg := append(append([]byte(nil), f.Body...), "hello"...)
				if c.Write(AppendFrame(nil, msg, false)) != nil || c.Flush() != nil {
					return
				}
			}
		}
	case Sub:
		return func(_ context.Context, c *Conn) {
			if c.Subscribe(nil) != nil {
				return
			}
			for {
				f, err := c.Read()
				if err != nil {
					return
				}
				got(c, f)
			}
		}
	default:
		return func(_ context.Context, c *Conn) {
			for {
				env, body, err := ReadRequest(c)
				if errors.Is(err, ErrOversize) {
					body = [][]byte{[]byte("too large")}
				} else if err != nil {
					return
				}
				if len(body) == 0 {
					body = [][]byte{[]byte("no body")}
				}
				if WriteReply(c, env, body...) != nil {
					return
				}
			}
		}
	}
}

// greeting is G of docs/PROTOCOL.md, with another minor version where one
// is given.
func greeting(minor byte) []byte {
	g := make([]byte, 64)
	g[0], g[9], g[10], g[11] = 0xff, 0x7f, 3, minor
	copy(g[12:], "NULL")
	return g
}

func ready(socketType string) []byte {
	return appendCommand(nil, "READY", property("Socket-Type", socketType), property("Identity", ""))
}

// peerOf is the socket type that talks with a listener of a role.
func peerOf(role Role) string { return role.peers()[0] }

// raw is a peer that sends bytes as they are.
type raw struct {
	t testing.TB
	net.Conn
	br *bufio.Reader
}

func dialRaw(t testing.TB, addr string) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, Conn: nc, br: bufio.NewReader(nc)}
	t.Cleanup(func() { _ = nc.Close() })
	return r
}

// Write has patience of its own: a peer may be there for the whole of a test.
func (r *raw) Write(b []byte) (int, error) {
	if err := r.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	return r.Conn.Write(b)
}

// await has patience with what is read next.
func (r *raw) await() {
	_ = r.SetReadDeadline(time.Now().Add(patience)) // reading fails as well, where it fails
}

// shake dials and does the handshake.
func shake(t testing.TB, addr, socketType string, minor byte) *raw {
	t.Helper()
	r := dialRaw(t, addr)
	r.send(greeting(minor), ready(socketType))
	r.shaken()
	return r
}

// shaken reads the other side's greeting and READY.
func (r *raw) shaken() {
	r.t.Helper()
	r.await()
	var g [64]byte
	if _, err := io.ReadFull(r.br, g[:]); err != nil {
		r.t.Fatalf("greeting: %v", err)
	}
	if flags, body := r.frame(); flags != flagCommand || !strings.HasPrefix(string(body), "\x05READY") {
		r.t.Fatalf("READY: flags %d, %q", flags, body)
	}
}

// send writes; a peer that is closed meanwhile may fail to.
func (r *raw) send(b ...[]byte) {
	for _, p := range b {
		if _, err := r.Write(p); err != nil {
			return
		}
	}
}

// frame reads one frame.
func (r *raw) frame() (flags byte, body []byte) {
	r.t.Helper()
	r.await()
	flags, body, err := readFrame(r.br)
	if err != nil {
		r.t.Fatalf("no frame: %v", err)
	}
	return flags, body
}

func readFrame(br *bufio.Reader) (flags byte, body []byte, err error) {
	if flags, err = br.ReadByte(); err != nil {
		return 0, nil, err
	}
	var size uint64
	if flags&flagLong != 0 {
		var b [8]byte
		if _, err := io.ReadFull(br, b[:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(b[:])
	} else {
		b, err := br.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		size = uint64(b)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(br, body)
	return flags, body, err
}

// closed waits until the other side has closed the connection, reading what
// it still sends.
func (r *raw) closed(what string) {
	r.t.Helper()
	r.await()
	_, err := io.Copy(io.Discard, r.br)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatalf("%s: the connection was not closed", what)
	}
	_ = r.Close()
}

// message frames one message of one part.
func message(body string) []byte { return AppendFrame(nil, []byte(body), false) }

// announce is a frame header with any flags and size.
func announce(flags byte, size uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{flags | flagLong}, size)
}

// works makes a good peer's whole conversation with a listener of a role.
func works(t testing.TB, addr string, role Role) {
	t.Helper()
	r := shake(t, addr, peerOf(role), 1)
	defer func() { _ = r.Close() }()
	check(r, role)
}

// check has a good peer of a serveRole listener use its connection: it asks
// and gets an answer.
func check(r *raw, role Role) {
	r.t.Helper()
	switch role {
	case Pub:
		r.send(message("\x01topic"))
		if _, body := r.frame(); string(body) != "topichello" {
			r.t.Fatalf("a good subscriber got %q", body)
		}
		r.send(message("\x00topic"))
	case Sub: // answers only to a PING
		for {
			r.send(message("update"), appendCommand(nil, "PING", []byte{0, 0}, []byte("good")))
			for {
				flags, body := r.frame()
				if flags == flagCommand && string(body) == "\x04PONGgood" {
					return
				}
			}
		}
	default:
		r.send(AppendFrame(nil, nil, true), message("question"))
		r.frame()
		if _, body := r.frame(); string(body) != "question" {
			r.t.Fatalf("a good requester got %q", body)
		}
	}
}

// deadlineContext ends with the test, or when patience does.
func deadlineContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

var listenerRoles = []Role{Pub, Sub, Router}
