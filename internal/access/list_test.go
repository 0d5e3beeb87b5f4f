package access

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// noInterfaces makes "local" mean what is local everywhere.
func noInterfaces(l *List) *List {
	l.interfaces = func() ([]net.Addr, error) { return nil, nil }
	return l
}

func mustParse(t *testing.T, items ...string) *List {
	t.Helper()
	l, err := Parse(items)
	if err != nil {
		t.Fatal(err)
	}
	return noInterfaces(l)
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		list string
		yes  string
		no   string
	}{
		{
			"local",
			"127.0.0.1 127.8.8.8 ::1 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.1.1 fe80::1 fe80::1%eth0 fc00::1 fdff::1 100.64.0.1 100.127.255.255 ::ffff:10.0.0.1 ::ffff:127.0.0.1",
			"8.8.8.8 172.32.0.1 172.15.255.255 100.128.0.1 100.63.255.255 2001:db8::1 ::ffff:8.8.8.8 0.0.0.0 :: 224.0.0.1 ff02::1",
		},
		{"any", "8.8.8.8 ::1 2001:db8::1", ""},
		{"all", "8.8.8.8 ::1 2001:db8::1", ""},
		{"192.0.2.0/24", "192.0.2.0 192.0.2.255 ::ffff:192.0.2.7", "192.0.3.1 127.0.0.1 ::1"},
		{"192.0.2.77/24", "192.0.2.1", "192.0.3.1"}, // host bits do not matter
		{"::ffff:192.0.2.0/120", "192.0.2.1 ::ffff:192.0.2.9", "192.0.3.1 ::1"},
		{"2001:db8::/32", "2001:db8::1 2001:db8:ffff::", "2001:db9::1 127.0.0.1"},
		{"192.0.2.5", "192.0.2.5 ::ffff:192.0.2.5", "192.0.2.4"},
		{"::ffff:192.0.2.5", "192.0.2.5", "192.0.2.4"},
		{"fe80::5%eth0", "fe80::5 fe80::5%wlan0", "fe80::6"},
		{"192.0.2.5, local ,198.51.100.0/24,", "192.0.2.5 127.0.0.1 198.51.100.9", "192.0.2.6"},
	} {
		l := mustParse(t, c.list)
		for s := range strings.FieldsSeq(c.yes) {
			if !l.Allows(netip.MustParseAddr(s)) {
				t.Errorf("%s does not allow %s", c.list, s)
			}
		}
		for s := range strings.FieldsSeq(c.no) {
			if l.Allows(netip.MustParseAddr(s)) {
				t.Errorf("%s allows %s", c.list, s)
			}
		}
	}
	if mustParse(t, "local").Allows(netip.Addr{}) {
		t.Error("no address at all is local")
	}
	if l := mustParse(t, "local", "192.0.2.1"); !l.Allows(netip.MustParseAddr("192.0.2.1")) || l.String() != "local,192.0.2.1" {
		t.Errorf("items given one by one became %s", l)
	}
}

func TestParseErrors(t *testing.T) {
	for _, items := range [][]string{
		{"localhost"}, {"192.0.2.0/33"}, {"192.0.2"}, {"local,nonsense"}, {"LOCAL"}, {"10.0.0.1-10.0.0.9"}, {"/8"}, {""}, {","}, nil,
	} {
		_, err := Parse(items)
		if err == nil {
			t.Errorf("%q was taken", items)
		} else if !strings.Contains(err.Error(), Taken) {
			t.Errorf("%q: the error does not say what is taken: %v", items, err)
		}
	}
}

func TestOwnInterfaces(t *testing.T) {
	now := time.Unix(1000, 0)
	var addrs []net.Addr
	var fail error
	reads := 0
	l := mustParse(t, "local")
	l.now = func() time.Time { return now }
	l.interfaces = func() ([]net.Addr, error) { reads++; return addrs, fail }
	cidr := func(s string) net.Addr {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: n.Mask}
	}
	check := func(addr string, want bool) {
		t.Helper()
		if got := l.Allows(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Allows(%s) = %v", addr, got)
		}
	}

	addrs = []net.Addr{cidr("203.0.113.9/24"), cidr("2001:db8:1::5/64"), cidr("0.0.0.0/0"), &net.UnixAddr{}}
	check("203.0.113.77", true)
	check("2001:db8:1::77", true)
	check("203.0.114.1", false)
	check("2001:db8:2::77", false)
	check("10.0.0.1", true)
	if reads != 1 {
		t.Errorf("the interfaces were read %d times within a minute", reads)
	}

	addrs = []net.Addr{cidr("198.51.100.1/24")}
	now = now.Add(59 * time.Second)
	check("198.51.100.2", false)
	now = now.Add(time.Second)
	check("198.51.100.2", true)
	check("203.0.113.77", false)
	if reads != 2 {
		t.Errorf("the interfaces were read %d times", reads)
	}

	// What cannot be read stays as it was.
	fail, addrs = errors.New("no"), nil
	now = now.Add(time.Minute)
	check("198.51.100.2", true)
}

// The real interfaces can be read, and their addresses are local.
func TestRealInterfaces(t *testing.T) {
	l, err := Parse([]string{"local"})
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			t.Fatal(err)
		}
		if !l.Allows(p.Addr()) {
			t.Errorf("own address %s is not local", p)
		}
	}
}

func BenchmarkAllowsForeign(b *testing.B) {
	l, err := Parse([]string{"local"})
	if err != nil {
		b.Fatal(err)
	}
	a := netip.MustParseAddr("8.8.8.8")
	for b.Loop() {
		l.Allows(a)
	}
}
