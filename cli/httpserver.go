package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tbhist/internal/access"
)

const (
	// maxHTTPConns bounds the connections to the HTTP port: scrapers and
	// browsers need few, and each costs memory. maxHTTPAddr of them may be
	// from one address, loopback excepted.
	maxHTTPConns = 256
	maxHTTPAddr  = 64
	// maxHTTPBody bounds the body of a request, in bytes.
	maxHTTPBody = 1 << 20
)

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           served(http.MaxBytesHandler(handler, maxHTTPBody)),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute, // a scrape of very many Things
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// served tells the connection of each request while it is being served: one
// with a body once that is there.
func served(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connKey{}).(*limitedConn); ok {
			if r.Body == nil || r.Body == http.NoBody {
				conn.serve()
			} else {
				r.Body = &bodyOf{ReadCloser: r.Body, conn: conn}
			}
			defer conn.wait()
		}
		handler.ServeHTTP(w, r)
	})
}

// bodyOf is a request's body that tells its connection when it is there whole.
type bodyOf struct {
	io.ReadCloser
	conn *limitedConn
}

func (b *bodyOf) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.conn.serve()
	}
	return n, err
}

// limitConns bounds how many connections of a listener are open, and how many
// from one address. For one more, the one that has been waiting for the
// longest is closed: those who open connections and ask nothing, or do not
// take their answers, keep nobody out. Where all are being served the new one
// is closed. refused is told of each.
func limitConns(ln net.Listener, most, mostPerAddr int, refused func()) net.Listener {
	return &limited{Listener: ln, most: most, mostPerAddr: mostPerAddr, refused: refused, perAddr: map[netip.Addr]int{}}
}

type limited struct {
	net.Listener
	most, mostPerAddr int
	refused           func()

	mu      sync.Mutex // guards the rest
	open    int
	perAddr map[netip.Addr]int
	// waiting are the connections of which no request is being served; the
	// one that waits for the longest first.
	waiting []*limitedConn
}

// Accept is part of net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &limitedConn{Conn: nc, l: l, addr: access.AddrOf(nc.RemoteAddr())}
		victim, ok := l.add(conn)
		if victim != nil {
			l.refused()
			_ = victim.Close()
		}
		if ok {
			return conn, nil
		}
	}
}

// add takes a connection in, if there is room, and tells which is to be
// closed: another one, or itself.
func (l *limited) add(conn *limitedConn) (victim net.Conn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	crowded := l.perAddr[conn.addr] >= l.mostPerAddr && !conn.addr.IsLoopback()
	if l.open >= l.most || crowded {
		oldest := l.longest(conn.addr, crowded)
		if oldest == nil {
			return conn.Conn, false
		}
		oldest.leave()
		victim = oldest
	}
	l.open++
	l.perAddr[conn.addr]++
	l.waiting = append(l.waiting, conn)
	return victim, true
}

// longest gives the connection that has been waiting for the longest, of
// this address or of all; nil where none waits. The lock is held.
func (l *limited) longest(addr netip.Addr, ofAddr bool) *limitedConn {
	for _, conn := range l.waiting {
		if !ofAddr || conn.addr == addr {
			return conn
		}
	}
	return nil
}

// limitedConn is a connection that counts.
type limitedConn struct {
	net.Conn
	l    *limited
	addr netip.Addr
	left bool // it does not count any more; guarded by l.mu
}

// Close is part of net.Conn.
func (c *limitedConn) Close() error {
	c.l.mu.Lock()
	c.leave()
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// leave makes room. The lock is held.
func (c *limitedConn) leave() {
	if c.left {
		return
	}
	c.left = true
	c.l.open--
	if c.l.perAddr[c.addr]--; c.l.perAddr[c.addr] == 0 {
		delete(c.l.perAddr, c.addr)
	}
	c.proceed()
}

// proceed ends its waiting. The lock is held.
func (c *limitedConn) proceed() {
	if i := slices.Index(c.l.waiting, c); i >= 0 {
		c.l.waiting = slices.Delete(c.l.waiting, i, i+1)
	}
}

// serve notes that a request has come in whole.
func (c *limitedConn) serve() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.proceed()
}

// wait notes that its answer was made: how long it takes to be taken, and the
// next request to come, is the peer's doing.
func (c *limitedConn) wait() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.proceed() // its body may never have come
	if !c.left {
		c.l.waiting = append(c.l.waiting, c)
	}
}
