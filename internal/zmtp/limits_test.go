package zmtp

import (
	"context"
	"net"
	"net/netip"
	"testing"
)

func TestMaxConns(t *testing.T) {
	tl := listen(t, ListenerOptions{Role: Router, Limits: Limits{MaxConns: 5}}, serveRole(Router, nil))
	var in []*raw
	for range 5 {
		r := shake(t, tl.addr, "REQ", 0)
		check(r, Router)
		in = append(in, r)
	}
	for range 3 {
		dialRaw(t, tl.addr).closed("one too many")
	}
	wait(t, "they are counted", func() bool { return tl.count(refusedLimit) == 3 })
	for _, r := range in {
		check(r, Router)
	}
	_ = in[0].Close()
	wait(t, "there is a place", func() bool { return tl.Conns() == 4 })
	works(t, tl.addr, Router)
}

// addrListener gives its connections the addresses that from tells.
type addrListener struct {
	net.Listener
	from func(n int) string
	n    int
}

type addrConn struct {
	net.Conn
	addr net.Addr
}

func (c addrConn) RemoteAddr() net.Addr { return c.addr }

func (l *addrListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.n++
	return addrConn{nc, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(l.from(l.n)))}, nil
}

func TestMaxPerAddr(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Two forms of one address, and another one from time to time.
	from := func(n int) string {
		switch {
		case n%5 == 0:
			return "192.0.2.9:1"
		case n%2 == 0:
			return "[::ffff:192.0.2.1]:1"
		}
		return "192.0.2.1:1"
	}
	tl := listenOn(t, &addrListener{Listener: ln, from: from}, ListenerOptions{Role: Router, Limits: Limits{MaxPerAddr: 4}}, serveRole(Router, nil))
	for n := 1; n <= 10; n++ {
		r := dialRaw(t, tl.addr)
		if n > 5 && n%5 != 0 {
			r.closed("one too many from its address")
			continue
		}
		r.send(greeting(0), ready("REQ"))
		r.shaken()
		check(r, Router)
	}
	wait(t, "they are counted", func() bool { return tl.count(refusedAddressLimit) == 4 })
}

func TestAdmit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	from := []string{"192.0.2.1:1", "[::ffff:198.51.100.7]:1"}
	asked := make(chan netip.Addr, 10)
	tl := listenOn(t, &addrListener{Listener: ln, from: func(n int) string { return from[n-1] }}, ListenerOptions{
		Role: Router,
		Admit: func(a netip.Addr) bool {
			asked <- a
			return a == netip.MustParseAddr("198.51.100.7")
		},
	}, func(_ context.Context, c *Conn) {
		if c.Remote() != netip.MustParseAddrPort("198.51.100.7:1") {
			t.Errorf("Remote is %v", c.Remote())
		}
		serveRole(Router, nil)(t.Context(), c)
	})
	dialRaw(t, tl.addr).closed("not admitted")
	works(t, tl.addr, Router)
	if a, b := <-asked, <-asked; a.String() != "192.0.2.1" || b.String() != "198.51.100.7" {
		t.Errorf("asked about %v and %v", a, b)
	}
}
