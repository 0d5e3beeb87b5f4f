package cli

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// webRig is the HTTP side with few places.
type webRig struct {
	t       *testing.T
	addr    string
	refused atomic.Int64
	served  chan struct{} // what "GET /held" waits for
	begun   chan struct{} // tells of each that waits
}

func newWebRig(t *testing.T, most, mostPerAddr int, from func(n int) string) *webRig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &webRig{t: t, addr: ln.Addr().String(), served: make(chan struct{}), begun: make(chan struct{}, 100)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") })
	mux.HandleFunc("GET /held", func(http.ResponseWriter, *http.Request) {
		r.begun <- struct{}{}
		<-r.served
	})
	mux.HandleFunc("POST /body", func(w http.ResponseWriter, req *http.Request) {
		r.begun <- struct{}{}
		if _, err := io.ReadAll(req.Body); err == nil {
			_, _ = io.WriteString(w, "answer")
		}
	})
	server := newHTTPServer(mux, slog.New(slog.DiscardHandler))
	server.ReadHeaderTimeout, server.ReadTimeout = patience, patience // who goes, goes to make room
	ended := make(chan struct{})
	limited := limitConns(&fromListener{Listener: ln, from: from}, most, mostPerAddr, func() { r.refused.Add(1) })
	go func() {
		defer close(ended)
		_ = server.Serve(limited)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return r
}

// fromListener gives its connections the addresses that from tells, if any.
type fromListener struct {
	net.Listener
	from func(n int) string
	n    int
}

type fromConn struct {
	net.Conn
	addr net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.addr }

func (l *fromListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil || l.from == nil {
		return nc, err
	}
	l.n++
	return fromConn{nc, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.from(l.n)))}, nil
}

// dial connects and sends, if there is something to be sent.
func (r *webRig) dial(request string) net.Conn {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(nc, request); err != nil {
		r.t.Fatal(err)
	}
	return nc
}

const (
	getAnswer = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	getHeld   = "GET /held HTTP/1.1\r\nHost: a\r\n\r\n"
)

// answered tells whether an answer comes; otherwise the connection is closed.
func (r *webRig) answered(nc net.Conn) bool {
	r.t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(answer.Body)
	return err == nil && string(body) == "answer"
}

// Connections that ask nothing keep nobody out: the one that has been waiting
// for the longest makes room. One whose answer is being made is left alone.
func TestHTTPConnections(t *testing.T) {
	const most = 4
	r := newWebRig(t, most, 100, nil)
	held := r.dial(getHeld)
	<-r.begun
	silent := r.dial("") // the first to go
	kept := r.dial(getAnswer)
	if !r.answered(kept) {
		t.Fatal("no answer while there is room")
	}
	part := r.dial("GET / HT")
	for i := range 3 {
		if !r.answered(r.dial(getAnswer)) {
			t.Fatalf("no answer to the one beyond, no. %d", i)
		}
		if n := r.refused.Load(); n != int64(i+1) {
			t.Errorf("%d were counted, not %d", n, i+1)
		}
		if gone := []net.Conn{silent, kept, part}[i]; r.answered(gone) {
			t.Errorf("connection %d was not the one to go", i)
		}
	}
	// Where all are being served, the new one goes.
	for range most - 1 {
		r.dial(getHeld)
		<-r.begun
	}
	if r.answered(r.dial(getAnswer)) {
		t.Error("one more than all that are being served is answered")
	}
	close(r.served)
	if answer, err := http.ReadResponse(bufio.NewReader(held), nil); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("the one that was served all the time has %v", err)
	}
	if !r.answered(r.dial(getAnswer)) {
		t.Error("no answer after them")
	}
}

// A body that does not come keeps nobody out either, and makes no trouble when
// it comes after all.
func TestHTTPConnectionsWithBodies(t *testing.T) {
	const most = 3
	const begun = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1"
	r := newWebRig(t, most, 100, nil)
	var all []net.Conn
	for range most {
		all = append(all, r.dial(begun))
		<-r.begun
	}
	for i := range 2 {
		if !r.answered(r.dial(getAnswer)) {
			t.Fatalf("bodies that do not come keep no. %d out", i)
		}
		if r.answered(all[i]) {
			t.Errorf("connection %d was not the one to go", i)
		}
	}
	last := all[most-1]
	for i := range 3 { // on one connection
		if _, err := io.WriteString(last, "2"); err != nil || !r.answered(last) {
			t.Fatalf("no answer to body %d (%v)", i, err)
		}
		if _, err := io.WriteString(last, begun); err != nil {
			t.Fatal(err)
		}
		<-r.begun
	}
	for range 4 * most {
		if !r.answered(r.dial(getAnswer)) {
			t.Fatal("no answer after them")
		}
	}
}

// One address has a share only, and makes room of its own; loopback may have
// everything.
func TestHTTPConnectionsOfAnAddress(t *testing.T) {
	from := func(n int) string {
		if n == 2 {
			return "192.0.2.2:1"
		}
		return "192.0.2.1:1"
	}
	r := newWebRig(t, 100, 2, from)
	first, other, second := r.dial(getAnswer), net.Conn(nil), net.Conn(nil)
	if !r.answered(first) {
		t.Fatal("no answer")
	}
	if other = r.dial(getAnswer); !r.answered(other) {
		t.Fatal("no answer to another address")
	}
	if second = r.dial(getAnswer); !r.answered(second) {
		t.Fatal("no answer to the second")
	}
	if !r.answered(r.dial(getAnswer)) {
		t.Fatal("no answer to the third")
	}
	if r.answered(first) || r.refused.Load() != 1 {
		t.Errorf("the first connection was not the one to go; %d were counted", r.refused.Load())
	}
	for _, nc := range []net.Conn{other, second} {
		if _, err := io.WriteString(nc, getAnswer); err != nil || !r.answered(nc) {
			t.Errorf("one that was to stay has no second answer (%v)", err)
		}
	}
}

// A body beyond the limit is not read on and on, and ends its connection.
func TestHTTPBody(t *testing.T) {
	r := newWebRig(t, 10, 10, nil)
	nc := r.dial("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n")
	sent, piece := 0, make([]byte, 64<<10)
	for sent < 256<<20 {
		n, err := nc.Write(piece)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= 256<<20 {
		t.Errorf("%d bytes were taken", sent)
	}
}
