package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// What --keep takes is a rule that the store takes, and the same one when it
// is written out.
func FuzzParseKeep(f *testing.F) {
	for _, s := range []string{
		"=unlimited,7d", "shop=1000,7d,10MiB", "shop.camera=,,500MiB", "debug=1", `""=,unlimited`, "a=1.5GiB", "=1,1h30m,0", "a.b=9223372036854775807,2w,1tb", "a=1 b=2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if rules, err := ringRules(5, false, []string{s}); err == nil {
			if _, err := store.NewRules(rules); err != nil {
				t.Errorf("%q gives rules that are none: %v", s, err)
			}
		}
		rule, err := parseKeep(s)
		if err != nil {
			if msg := err.Error(); strings.ContainsAny(msg, "\n\x1b") {
				t.Errorf("%q is refused with %q", s, msg)
			}
			return
		}
		l := rule.Limit
		for _, n := range []int64{l.Count, int64(l.Age), l.Bytes} {
			if n < 0 && n != store.Unlimited {
				t.Errorf("%q is %+v", s, l)
			}
		}
		if l == (store.Limit{}) || !thing.ValidName(rule.Prefix) {
			t.Errorf("%q is %+v", s, rule)
		}
		if l.Age > 1<<53 { // further than a float64 counts
			return
		}
		part := func(n int64, format string) string {
			switch n {
			case 0:
				return ""
			case store.Unlimited:
				return unlimited
			}
			return fmt.Sprintf(format, n)
		}
		written := string(rule.Prefix) + "=" + part(l.Count, "%d") + "," + part(int64(l.Age), "%dns") + "," + part(l.Bytes, "%d")
		if again, err := parseKeep(written); err != nil || again != rule {
			t.Errorf("%q is %+v, which is written %q and read as %+v, %v", s, rule, written, again, err)
		}
	})
}

// Sizes and durations are never negative, and what is printed of them is
// taken.
func FuzzParseUnits(f *testing.F) {
	for _, s := range []string{"10MiB", "1.5gb", "4096", "0", "1h30m", "2w", "0.1s", "1e3s", "9223372036854775807", "8388608TiB", "µs", "1µs", ".5h", "-1s", " 5 k "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseSize(s); err == nil {
			if n < 0 {
				t.Errorf("%q is %d bytes", s, n)
			}
			printed := formatSize(n)
			again, err := parseSize(printed)
			if tenth := n / 10; n < 1<<62 && (err != nil || again < n-tenth || again > n+tenth) {
				t.Errorf("%q is %d bytes, printed as %q and read as %d, %v", s, n, printed, again, err)
			}
		}
		if d, err := parseDuration(s); err == nil {
			if d < 0 {
				t.Errorf("%q is %v", s, d)
			}
			printed := formatDuration(d)
			again, err := parseDuration(printed)
			if least := min(d/10, time.Hour) + 100*time.Millisecond; err != nil || again > d || again < d-least {
				t.Errorf("%q is %v, printed as %q and read as %v, %v", s, d, printed, again, err)
			}
		}
	})
}

// An address to listen on has a port that leaves room for the others.
func FuzzParseListen(f *testing.F) {
	for _, s := range []string{":7954", "127.0.0.1:0", "[::1]:65532", "65533", "host", "a:b:c", "[fe80::1%eth0]:1", ":-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := parseListen(s)
		if err == nil && (port < 0 || port > 65532) {
			t.Errorf("%q is %q and %d", s, host, port)
		}
	})
}
