package access

import (
	"net/netip"
	"testing"
)

// A list that is taken is taken again as it is printed, and lets the same in;
// what has neither "any" nor "local" lets in only what a network of it holds.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"local", "any", "192.0.2.0/24,127.0.0.1", "local, 2001:db8::/32", "::ffff:192.0.2.1", "192.0.2.7/24", "0.0.0.0/0", "fe80::1%eth0", ","} {
		f.Add(s, "192.0.2.7")
	}
	f.Fuzz(func(t *testing.T, s, from string) {
		l, err := Parse([]string{s})
		if err != nil {
			return
		}
		again, err := Parse([]string{l.String()})
		if err != nil || again.String() != l.String() {
			t.Fatalf("%q is printed as %q, which is %v, %v", s, l, again, err)
		}
		a, err := netip.ParseAddr(from)
		if err != nil {
			return
		}
		if l.Allows(a) != again.Allows(a) {
			t.Errorf("%s and %q do not agree about %s", l, s, a)
		}
		if l.any || l.local {
			return
		}
		held := false
		for _, n := range l.nets {
			held = held || n.Contains(plain(a))
		}
		if l.Allows(a) != held {
			t.Errorf("%q lets %s in: %v", s, a, !held)
		}
	})
}
