package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tbhist/internal/dnstest"
	"tbhist/internal/wire"
)

func nameServer(t *testing.T, records ...string) *dnstest.Server {
	t.Helper()
	s, err := dnstest.Start(records...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// zoneClient gives a client of the zone example.org at that name server.
func zoneClient(t *testing.T, s *dnstest.Server) *Client {
	t.Helper()
	resolver, err := NewResolver(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Zone: "example.org.", Resolver: resolver})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func srv(priority, weight, port int, target string) string {
	return fmt.Sprintf("_thingsbus._tcp.example.org. 60 IN SRV %d %d %d %s", priority, weight, port, target)
}

// local is the address record of a host on this machine. No other name
// server knows it.
func local(host string) string { return host + " 60 IN A 127.0.0.1" }

// counting starts a broker that counts the questions it is asked.
func counting(t *testing.T) (*fakeBroker, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	return newFake(t, func(*wire.Request) [][]byte {
		n.Add(1)
		return replayPage(1, 2, 2, func(*wire.PageHead) {})
	}), &n
}

// deadPort gives a main port at which nothing listens.
func deadPort(t *testing.T) int {
	t.Helper()
	all := openPorts(t)
	for _, ln := range all {
		deaden(t, ln)
	}
	return all[0].Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
}

func ask(t *testing.T, c *Client) {
	t.Helper()
	for _, err := range c.Replay(t.Context(), Query{}).Updates() {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestZone(t *testing.T) {
	f, asked := counting(t)
	s := nameServer(t, srv(0, 0, f.port, "broker.example.org."), local("broker.example.org."))
	c := zoneClient(t, s)
	if got, want := c.URL(), "srv:_thingsbus._tcp.example.org"; got != want {
		t.Errorf("URL is %s, want %s", got, want)
	}
	ask(t, c)
	if asked.Load() != 1 {
		t.Errorf("the broker was asked %d times", asked.Load())
	}
	records, err := c.Records(t.Context())
	if want := (Record{Host: "broker.example.org", Port: f.port}); err != nil || len(records) != 1 || records[0] != want {
		t.Errorf("got records %v, %v, want %v", records, err, want)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if s.Asked("udp", "A", "broker.example.org") == 0 {
		t.Error("the host was not looked up at the zone's name server")
	}
}

// The lower priority is asked while it answers, then the next.
func TestZoneFailOver(t *testing.T) {
	main, asked := counting(t)
	spare, spareAsked := counting(t)
	records := []string{
		srv(20, 0, spare.port, "spare.example.org."), srv(10, 5, main.port, "main.example.org."),
		local("spare.example.org."), local("main.example.org."),
	}
	s := nameServer(t, records...)
	c := zoneClient(t, s)
	for range 3 {
		ask(t, c)
	}
	if asked.Load() != 3 || spareAsked.Load() != 0 {
		t.Errorf("main was asked %d times, spare %d, want 3 and 0", asked.Load(), spareAsked.Load())
	}
	// Refused, a host without an address, and a port that cannot be.
	dead := deadPort(t)
	for _, first := range []string{
		srv(1, 0, dead, "main.example.org."), srv(1, 0, main.port, "gone.example.org."), srv(1, 0, 65535, "main.example.org."),
		srv(1, 0, main.port, "."),
	} {
		if err := s.Set(srv(20, 0, spare.port, "spare.example.org."), first, local("spare.example.org."), local("main.example.org.")); err != nil {
			t.Fatal(err)
		}
		before := spareAsked.Load()
		ask(t, c)
		if spareAsked.Load() != before+1 {
			t.Errorf("spare was not asked behind %s", first)
		}
	}
	// None is left: each is told of.
	if err := s.Set(srv(1, 0, dead, "main.example.org."), srv(2, 0, dead, "gone.example.org."), local("main.example.org.")); err != nil {
		t.Fatal(err)
	}
	err := c.Ping(t.Context())
	want := fmt.Sprintf("no broker of zone example.org answers: tcp://main.example.org:%[1]d: connection refused; tcp://gone.example.org:%[1]d: the host gone.example.org is not known", dead)
	var none *NoBrokerError
	if err == nil || err.Error() != want || !errors.As(err, &none) || none.Zone != "example.org" || none.Addr != "main.example.org:"+strconv.Itoa(dead) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// A record that changes counts from the next connection on.
func TestZoneMoves(t *testing.T) {
	before, _ := counting(t)
	after, _ := counting(t)
	s := nameServer(t, srv(0, 0, before.port, "b.example.org."), local("b.example.org."))
	c := zoneClient(t, s)
	read := func(f *fakeBroker, change func()) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := make(chan error, 1)
		go func() {
			for _, err := range c.Feed(ctx, FeedQuery{}) {
				got <- err
				return
			}
		}()
		f.awaitSubscribed(2)
		change()
		return <-got
	}
	err := read(before, func() {
		if err := s.Set(srv(0, 0, after.port, "b.example.org."), local("b.example.org.")); err != nil {
			t.Error(err)
		}
		before.cut()
	})
	if !errors.Is(err, ErrLost) {
		t.Errorf("the feed that was cut ended with %v", err)
	}
	if err := read(after, after.cut); !errors.Is(err, ErrLost) {
		t.Errorf("the feed of the second broker ended with %v", err)
	}
}

// An answer too long for a datagram comes over TCP.
func TestZoneManyRecords(t *testing.T) {
	var records []string
	for i := range 60 {
		records = append(records, srv(1, i+1, 1000+i, fmt.Sprintf("a-long-name-for-a-host-%d.example.org.", i)))
	}
	s := nameServer(t, records...)
	s.Break(dnstest.Truncated)
	c := zoneClient(t, s)
	got, err := c.Records(t.Context())
	if err != nil || len(got) != 60 {
		t.Fatalf("got %d records, %v", len(got), err)
	}
	if s.Asked("tcp", "SRV", "_thingsbus._tcp.example.org") == 0 {
		t.Error("not asked over TCP")
	}
}

func TestZoneErrors(t *testing.T) {
	const lookup = "zone example.org cannot be looked up: "
	for name, test := range map[string]struct {
		records []string
		fault   dnstest.Fault
		want    string
	}{
		"nothing":     {nil, dnstest.None, "zone example.org is not known, nor a record _thingsbus._tcp.example.org (SRV): is the name right?"},
		"no record":   {[]string{"example.org. 60 IN NS ns.example.org."}, dnstest.None, "zone example.org names no broker: it has no record _thingsbus._tcp.example.org (SRV)"},
		"another":     {[]string{"_http._tcp.example.org. 60 IN SRV 0 0 80 a.example.org."}, dnstest.None, "zone example.org is not known, nor"},
		"other type":  {[]string{"_thingsbus._tcp.example.org. 60 IN TXT x", "example.org. 60 IN NS ns.example.org."}, dnstest.None, "zone example.org names no broker"},
		"not offered": {[]string{srv(0, 0, 0, ".")}, dnstest.None, `zone example.org says that it has no broker: the target of its record _thingsbus._tcp.example.org is "."`},
		"bad port":    {[]string{srv(0, 0, 65533, "a.example.org.")}, dnstest.None, "the port 65533 that zone example.org has for its broker is not in 1…65532"},
		"bad host":    {[]string{srv(0, 0, 7954, "127.0.0.1.")}, dnstest.None, lookup + "the name server does not tell (DNS response contained records which contain invalid names)"},
		"failing":     {[]string{srv(0, 0, 7954, "a.example.org.")}, dnstest.Failing, lookup + "the name server does not tell (server misbehaving)"},
		"silent":      {[]string{srv(0, 0, 7954, "a.example.org.")}, dnstest.Silent, lookup + "the name server does not answer"},
		"lonely":      {[]string{srv(0, 0, 7954, "a.example.org.")}, dnstest.None, "no broker answers at tcp://a.example.org:7954, port 7956: the host a.example.org is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			s := nameServer(t, test.records...)
			s.Break(test.fault)
			c := zoneClient(t, s)
			if test.fault == dnstest.Silent {
				c.lookupWait = 200 * time.Millisecond
			}
			for _, err := range c.Replay(t.Context(), Query{}).Updates() {
				var none *NoBrokerError
				if !errors.As(err, &none) || !strings.HasPrefix(err.Error(), test.want) || none.Zone != "example.org" || none.Reason() == "" || none.Err == nil {
					t.Errorf("got %v\nwant %s", err, test.want)
				}
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		s := nameServer(t)
		s.Break(dnstest.Silent)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := zoneClient(t, s).Ping(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no name server", func(t *testing.T) {
		s := nameServer(t)
		c := zoneClient(t, s)
		s.Close()
		err := c.Ping(t.Context())
		var none *NoBrokerError
		if !errors.As(err, &none) || !strings.HasPrefix(err.Error(), lookup+"the name server does not") {
			t.Errorf("got %v", err)
		}
	})
}

// handResolver is a Resolver that asks nobody.
type handResolver struct{ records []*net.SRV }

func (h handResolver) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if service != "thingsbus" || proto != "tcp" || name != "example.org." {
		return "", nil, fmt.Errorf("asked for %s, %s, %s", service, proto, name)
	}
	if h.records == nil {
		return "", nil, errors.New("the resolver is out of paper")
	}
	return "", h.records, nil
}

// Any resolver will do: in any order, and whatever its errors are.
func TestZoneResolver(t *testing.T) {
	f, asked := counting(t)
	c, err := New(Options{Zone: "example.org", Resolver: handResolver{[]*net.SRV{
		{Priority: 2, Target: "127.0.0.1.", Port: uint16(deadPort(t))},
		{Priority: 1, Target: "127.0.0.1.", Port: uint16(f.port)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c)
	if asked.Load() != 1 {
		t.Errorf("the broker was asked %d times", asked.Load())
	}
	if c, err = New(Options{Zone: "example.org", Resolver: handResolver{}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err == nil || err.Error() != "zone example.org cannot be looked up: the resolver is out of paper" {
		t.Errorf("got %v", err)
	}
}

// Without a zone the name server is asked for the broker's host.
func TestResolverForBroker(t *testing.T) {
	f, asked := counting(t)
	s := nameServer(t, local("broker.example.org."))
	resolver, err := NewResolver(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Broker: "broker.example.org:" + strconv.Itoa(f.port), Resolver: resolver})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c)
	if records, err := c.Records(t.Context()); asked.Load() != 1 || records != nil || err != nil {
		t.Errorf("asked %d times; records %v, %v", asked.Load(), records, err)
	}
}

func TestZoneHealth(t *testing.T) {
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() {
		defer close(served)
		_ = server.Serve(web)
	}()
	defer func() {
		_ = server.Close()
		<-served
	}()
	port := web.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	s := nameServer(t, srv(1, 0, deadPort(t), "a.example.org."), srv(2, 0, port-HTTPOffset, "a.example.org."), local("a.example.org."))
	if err := zoneClient(t, s).Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewZone(t *testing.T) {
	for _, zone := range []string{
		"tcp://example.org", "example.org:7954", "192.0.2.1", "::1", "a..b", ".", "exämple.org", "a b", "a/b",
		strings.Repeat("a", 64) + ".org", strings.Repeat("abcdefg.", 31) + "org",
	} {
		if _, err := New(Options{Zone: zone}); err == nil || !strings.Contains(err.Error(), "is not a zone") {
			t.Errorf("New with zone %q gives %v", zone, err)
		}
	}
	if _, err := New(Options{Zone: "example.org", Broker: DefaultBroker}); err == nil {
		t.Error("New takes a zone and a broker")
	}
}

func TestNewResolver(t *testing.T) {
	for _, server := range []string{"127.0.0.1", "127.0.0.1:53", "ns.example.org", "::1", "[::1]", "[::1]:5353"} {
		if _, err := NewResolver(server); err != nil {
			t.Error(err)
		}
	}
	for _, server := range []string{"", ":53", "a:b", "a:0", "a:65536", "udp://a:53", "a:1:2", "https://a/dns"} {
		if _, err := NewResolver(server); err == nil {
			t.Errorf("NewResolver(%q) takes it", server)
		}
	}
}
