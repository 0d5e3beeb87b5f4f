package client

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Resolver looks up SRV records. *net.Resolver is one. Its errors tell more
// when they are a *net.DNSError; the order of its records does not matter.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
}

// NewResolver gives a resolver that asks one name server and no other. It is
// named as HOST:PORT; HOST alone is port 53. The error says what is wrong
// with that; nothing is asked yet.
func NewResolver(server string) (*net.Resolver, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = strings.Trim(server, "[]"), "53"
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			host = ""
		}
	}
	if n, err := strconv.Atoi(port); host == "" || strings.Contains(host, "/") || err != nil || n < 1 || n > 65535 {
		return nil, fmt.Errorf("%q is not a name server: taken is HOST:PORT or HOST", server)
	}
	addr := net.JoinHostPort(host, port)
	return &net.Resolver{
		PreferGo: true, // the system's own asks whom the system is set to
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		},
	}, nil
}

// resolver gives what zones are looked up with.
func (c *Client) resolver() Resolver {
	if c.o.Resolver == nil {
		return net.DefaultResolver
	}
	return c.o.Resolver
}

// hosts gives what the addresses of hosts are looked up with; nil is the
// default. A dialler takes nothing but a *net.Resolver: it tries a host's
// addresses side by side, which had better not be written anew.
func (c *Client) hosts() *net.Resolver {
	r, _ := c.o.Resolver.(*net.Resolver)
	return r
}
