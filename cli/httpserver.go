package cli

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxHTTPConns bounds the connections to the HTTP port: scrapers and
// browsers need few, and each costs memory.
const maxHTTPConns = 256

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute, // a scrape of very many Things
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// limitConns bounds how many connections of a listener are open; one more
// is closed at once, and refused is told.
func limitConns(ln net.Listener, most int, refused func()) net.Listener {
	return &limited{Listener: ln, open: make(chan struct{}, most), refused: refused}
}

type limited struct {
	net.Listener
	open    chan struct{} // holds a token for each open connection
	refused func()
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.open <- struct{}{}:
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.open })}, nil
		default:
			l.refused()
			_ = conn.Close()
		}
	}
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
