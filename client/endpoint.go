package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// endpoint is where one broker is: its host and its main port.
type endpoint struct {
	host string
	port int
}

// addr gives the HOST:PORT of one of the broker's ports.
func (e endpoint) addr(offset int) string {
	return net.JoinHostPort(e.host, strconv.Itoa(e.port+offset))
}

// url gives tcp://HOST:PORT with the main port.
func (e endpoint) url() string { return "tcp://" + e.addr(FeedOffset) }

func parseBroker(s string) (e endpoint, err error) {
	bad := func(why string) (endpoint, error) {
		return endpoint{}, fmt.Errorf("%q is not a broker's address: %s; taken is tcp://HOST:PORT with the main port", s, why)
	}
	rest := s
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		if scheme != "tcp" {
			return bad("its scheme is " + scheme)
		}
		rest = after
	}
	u, err := url.Parse("tcp://" + rest)
	switch {
	case err != nil:
		return bad("it is not a URL")
	case u.Hostname() == "":
		return bad("it has no host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return bad("it has more than host and port")
	}
	e = endpoint{host: u.Hostname(), port: DefaultPort}
	if p := u.Port(); p != "" {
		if e.port, err = strconv.Atoi(p); err != nil || e.port < 1 || e.port > maxPort {
			return bad(fmt.Sprintf("its port is not in 1…%d", maxPort))
		}
	}
	return e, nil
}

// endpoints gives where the broker may be found now, in the order to be
// tried; never none without an error.
func (c *Client) endpoints(ctx context.Context) ([]endpoint, error) {
	if c.at == (endpoint{}) {
		return c.zoneEndpoints(ctx)
	}
	return []endpoint{c.at}, nil
}

// each calls try for one endpoint after the other until one is good, or
// fails otherwise than by a *NoBrokerError. The error has those of all.
func (c *Client) each(ctx context.Context, try func(endpoint) error) error {
	found, err := c.endpoints(ctx)
	if err != nil {
		return err
	}
	var tried []*NoBrokerError
	for _, e := range found {
		err := try(e)
		var none *NoBrokerError
		if !errors.As(err, &none) {
			return err
		}
		none.Zone = c.o.Zone
		tried = append(tried, none)
	}
	return noneOf(tried)
}

// on gives a client of that one broker: for what needs several connections
// to the same.
func (c *Client) on(e endpoint) *Client {
	one := *c
	one.at = e
	return &one
}
