package zmtp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one connection after its handshake. Any goroutine may write and
// close; only one may read.
type Conn struct {
	nc       net.Conn
	role     Role
	limits   Limits
	remote   netip.AddrPort
	peer     peerInfo
	interval time.Duration // between heartbeats; 0 when none are sent
	buffers  *budget       // for lent buffers
	bodies   *budget       // for bodies that no buffer holds, and long messages
	prefixes *budget       // for subscriptions

	ctx    context.Context // ends when the connection is closed
	cancel context.CancelFunc
	once   sync.Once
	cause  atomic.Pointer[error] // why this side ended the connection

	in       input
	readErr  error // why reading ended; belongs to the reader
	parts    int   // frames of the current message read so far
	bytes    int64 // and the bytes of their bodies
	pinged   bool  // a PING is out and nothing was read since
	subs     *Subscriptions
	subsOnce sync.Once
	// midFrame is the time, in ticks, since which the reader
	// waits for the rest of one frame; 0 while it does not. holding is the
	// same for a long message: since when it has been held, until the next
	// is read.
	midFrame, holding atomic.Int64
	held              int64 // bytes of that message; belongs to the reader

	out     output
	control control
}

// newConn wraps a network connection whose handshake has not begun. m is nil
// for one that was dialled.
func newConn(ctx context.Context, nc net.Conn, role Role, limits Limits, m *Memory) *Conn {
	c := &Conn{nc: nc, role: role, limits: limits, remote: addrPort(nc)}
	if m != nil {
		c.buffers, c.bodies, c.out.budget = m.buffers, m.bodies, &m.out
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.in.init()
	return c
}

// addrPort gives the peer's address, without the ::ffff: of IPv4 in IPv6.
func addrPort(nc net.Conn) netip.AddrPort {
	a, ok := nc.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Remote gives the peer's address; IPv4 in IPv6 is unmapped.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// PeerRole gives the socket type that the peer said it is.
func (c *Conn) PeerRole() string { return c.peer.socketType }

// PeerIdentity gives the identity that the peer chose, often empty. Peers
// choose freely, so it identifies nobody.
func (c *Conn) PeerIdentity() string { return c.peer.identity }

// PeerMinor gives the minor version of ZMTP 3 that the peer greeted with.
func (c *Conn) PeerMinor() int { return c.peer.minor }

// Context ends when this side has closed the connection, which it also does
// when Read or Write finds it at its end.
func (c *Conn) Context() context.Context { return c.ctx }

// Close ends the connection; what was written but not flushed is lost. A
// Read or Write that waits returns. Closing again does nothing.
func (c *Conn) Close() error {
	var err error
	c.once.Do(func() {
		c.cancel()
		err = c.nc.Close()
	})
	return err
}

// Finish flushes, tells the peer that nothing more comes, and waits until
// the peer has closed its side or ctx ends, so that what was sent arrives.
// Then it closes. Nobody else may be reading. The error is ctx.Err() when
// that came first.
func (c *Conn) Finish(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	err := c.finish()
	if !stop() {
		err = ctx.Err()
	}
	_ = c.Close()
	return err
}

func (c *Conn) finish() error {
	if err := c.CloseWrite(); err != nil {
		return err
	}
	for {
		if _, err := c.Read(); err != nil {
			return nil // however the peer ended it, it is over
		}
	}
}

// CloseWrite flushes and tells the peer that nothing more comes. Reading goes
// on: it ends when the peer, having read everything, closes its side.
func (c *Conn) CloseWrite() error {
	if err := c.Flush(); err != nil {
		return err
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		return c.Close()
	}
	if err := half.CloseWrite(); err != nil {
		return fmt.Errorf("zmtp: %w", err)
	}
	return nil
}

// end closes the connection for a reason, which later errors of Read and
// Write tell.
func (c *Conn) end(err error) {
	c.cause.CompareAndSwap(nil, &err)
	_ = c.Close()
}

// because replaces the error of a closed connection by the reason for which
// this side closed it.
func (c *Conn) because(err error) error {
	if cause := c.cause.Load(); cause != nil {
		return *cause
	}
	return err
}

// stuckSince gives the time, in ticks, since which the connection
// holds what it was lent without the peer's having done its part; 0 for none.
func (c *Conn) stuckSince() int64 {
	mid, holding := c.midFrame.Load(), c.holding.Load()
	if mid == 0 || holding != 0 && holding < mid {
		return holding
	}
	return mid
}

// fault gives what the peer did to have its connection ended, nil if it did
// nothing.
func (c *Conn) fault() *PeerError {
	if cause := c.cause.Load(); cause != nil {
		var pe *PeerError
		if errors.As(*cause, &pe) {
			return pe
		}
	}
	return nil
}
