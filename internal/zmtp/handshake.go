package zmtp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"
)

// handshake exchanges greetings and READY within Limits.Handshake. On an
// error the connection must be closed; the error is a *PeerError unless this
// side ended it.
func (c *Conn) handshake(identity string, server bool, deadline time.Time) error {
	if err := c.nc.SetDeadline(deadline); err != nil {
		return c.because(err)
	}
	g := &guard{Conn: c.nc, c: c}
	if err := openZMQ(g, c.role, identity, server); err != nil {
		if g.err != nil {
			err = g.err
		}
		return c.handshakeError(err)
	}
	c.midFrame.Store(0)
	if c.Buffered() == 0 {
		c.lower()
	}
	c.peer = g.peer
	return c.nc.SetDeadline(time.Time{})
}

func (c *Conn) handshakeError(err error) error {
	var fault *PeerError
	switch {
	case c.cause.Load() != nil:
		return c.because(err)
	case errors.As(err, &fault), errors.Is(err, net.ErrClosed):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return peerError(refusedHandshake, "no handshake within %v", c.limits.Handshake)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return peerError(refusedHandshake, "the peer ended the connection during the handshake: %w", io.ErrUnexpectedEOF)
	}
	var op *net.OpError
	if errors.As(err, &op) { // a reset
		return peerError(refusedHandshake, "handshake: %w", err)
	}
	return peerError(refusedProtocol, "handshake: %w", err)
}

// openZMQ lets the library do the handshake. The guard lets nothing through
// that is known to make it panic; what is not known becomes an error too.
func openZMQ(g *guard, role Role, identity string, server bool) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in the handshake: %v", r)
		}
	}()
	_, err = zmq4.Open(g, null.Security(), zmq4.SocketType(role), zmq4.SocketIdentity(identity), server, nil)
	return err
}
