package zmtp

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"time"
)

// errShutdown is why connections end when their listener does.
var errShutdown = errors.New("zmtp: the listener is closing")

// ListenerOptions say what a listener is and whom it lets in.
type ListenerOptions struct {
	Name   string // of the listener, in log lines: "feed"
	Role   Role   // Pub, Sub or Router
	Limits Limits
	// Memory is shared with other listeners; nil means one of its own, of
	// Limits.MaxBuffered.
	Memory *Memory
	// Heartbeat is the interval of PINGs to peers that know them (ZMTP 3.1)
	// while nothing comes from them; one that does not answer within
	// another interval is closed. 0 means none.
	Heartbeat time.Duration
	// Admit tells whether a peer with this address, unmapped, may come in;
	// nil lets in everybody. It counts and logs for itself: whom it turns
	// away is not reported to Refused.
	Admit func(netip.Addr) bool
	// Refused is told of each connection that was refused or closed for
	// what the peer did, with one of RefuseReasons.
	Refused func(reason string)
	// Logger gets one line per address, reason and minute; nil means none.
	Logger *slog.Logger
}

// Listener accepts ZeroMQ connections and has each served. Peers that break
// the protocol or a limit are closed without harm to others.
type Listener struct {
	ln    net.Listener
	o     ListenerOptions
	serve func(ctx context.Context, c *Conn)
	table *table
	log   *refusalLog
	wg    sync.WaitGroup // connections

	prefixes *budget // for all connections together
}

// NewListener makes a listener of ln, which it owns from then on. serve is
// called after the handshake in the connection's own goroutine, with a
// context that ends when the connection is closed or Run is to end. The
// connection is closed when serve returns, and nobody may use it any more.
func NewListener(ln net.Listener, o ListenerOptions, serve func(ctx context.Context, c *Conn)) *Listener {
	o.Limits = o.Limits.withDefaults(o.Role)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Refused == nil {
		o.Refused = func(string) {}
	}
	if o.Memory == nil {
		o.Memory = NewMemory(o.Limits.MaxBuffered, o.Limits.MaxBuffered)
	}
	l := &Listener{
		ln: ln, o: o, serve: serve,
		table:    newTable(o.Limits),
		log:      newRefusalLog(o.Logger, o.Name, time.Now),
		prefixes: newBudget(o.Limits.MaxSubscribed),
	}
	l.prefixes.grace = math.MaxInt64 // nobody is closed to make room for a subscription
	return l
}

// Addr gives the address listened on.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Conns gives the number of connections, those in their handshake too.
func (l *Listener) Conns() int { return l.table.len() }

// Run accepts connections until ctx ends, then closes them all and returns
// nil when every serve has returned. The error tells that the listening
// socket was closed by somebody else.
func (l *Listener) Run(ctx context.Context) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = l.ln.Close()
	})
	err := l.accept(ctx)
	if stop() {
		_ = l.ln.Close()
	} else {
		<-closed
	}
	l.table.closeAll()
	l.wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// begin starts a connection's goroutine, or refuses the connection.
func (l *Listener) begin(ctx context.Context, nc net.Conn) {
	c := newConn(ctx, nc, l.o.Role, l.o.Limits, l.o.Memory)
	c.prefixes = l.prefixes
	if l.o.Admit != nil && !l.o.Admit(c.remote.Addr()) {
		_ = c.Close()
		return
	}
	if err := l.table.add(c); err != nil {
		_ = c.Close()
		l.refuse(c, err)
		return
	}
	l.wg.Go(func() {
		l.handle(c)
		_ = c.Close()
		c.release()
		c.out.mu.Lock()
		c.drop()
		c.out.mu.Unlock()
		c.prefixes.giveAll(c)
		l.table.remove(c)
	})
}

// handle runs one connection from its handshake to its end.
func (l *Listener) handle(c *Conn) {
	tune(c.nc)
	if err := c.handshake("", true, time.Now().Add(l.o.Limits.Handshake)); err != nil {
		l.refuse(c, err)
		return
	}
	l.table.established(c)
	if c.peer.minor >= 1 {
		c.interval = l.o.Heartbeat
	}
	l.serve(c.ctx, c)
	if fault := c.fault(); fault != nil {
		l.refuse(c, fault)
	}
}

// refuse counts and logs a connection that ended for what its peer did.
func (l *Listener) refuse(c *Conn, err error) {
	var fault *PeerError
	if !errors.As(err, &fault) {
		return
	}
	l.o.Refused(fault.Reason)
	l.log.refused(c.remote.Addr(), fault)
}

// tune sets what every connection wants: no delay, and an end to peers that
// are gone without a word.
func tune(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	// A socket that takes neither is about to fail anyway.
	_ = tcp.SetNoDelay(true)
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3})
}
