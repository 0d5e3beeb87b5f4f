package zmtp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// DialOptions say how to connect.
type DialOptions struct {
	Role Role // Pub, Sub, Req or Dealer
	// Identity is told to the peer; usually empty.
	Identity string
	Limits   Limits
	// Heartbeat is the interval of PINGs while nothing comes, to peers that
	// know them (ZMTP 3.1); one that does not answer within another
	// interval is dead. It works while somebody reads. 0 means none.
	Heartbeat time.Duration
	Resolver  *net.Resolver // looks the host up; nil means the default
	Logger    *slog.Logger  // nil means none
}

// Dial makes one connection and its handshake. addr is "host:port" or
// "tcp://host:port". ctx bounds dialling and handshake only: close the
// connection to end it.
//
// On a Pub connection, Read gives the peer's subscriptions: what is written
// before the first has come may be passed over by the peer's filter.
func Dial(ctx context.Context, addr string, o DialOptions) (*Conn, error) {
	hostport, err := dialAddr(addr)
	if err != nil {
		return nil, err
	}
	limits := o.Limits.withDefaults(o.Role)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := net.Dialer{Resolver: o.Resolver}
	nc, err := d.DialContext(ctx, "tcp", hostport)
	if err != nil {
		return nil, fmt.Errorf("zmtp: %w", err)
	}
	tune(nc)
	c := newConn(context.Background(), nc, o.Role, limits, nil)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := c.handshake(o.Identity, false, time.Now().Add(limits.Handshake)); err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("zmtp: %s: %w", hostport, err)
	}
	if !stop() {
		_ = c.Close()
		return nil, fmt.Errorf("zmtp: %s: %w", hostport, context.Cause(ctx))
	}
	if c.peer.minor >= 1 {
		c.interval = o.Heartbeat
	}
	return c, nil
}

// dialTimeout bounds one attempt: a host that is not there answers nothing.
const dialTimeout = 10 * time.Second

// dialAddr takes "host:port" and "tcp://host:port".
func dialAddr(addr string) (string, error) {
	hostport := strings.TrimPrefix(addr, "tcp://")
	if strings.Contains(hostport, "://") {
		return "", fmt.Errorf("zmtp: address %q: only tcp:// is taken", addr)
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || host == "" || port == "" {
		return "", fmt.Errorf("zmtp: address %q: host:port is taken", addr)
	}
	return net.JoinHostPort(strings.TrimSuffix(host, "."), port), nil
}
