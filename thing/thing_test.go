package thing

import (
	"strings"
	"testing"
	"time"
)

func TestValidName(t *testing.T) {
	part64 := "a" + strings.Repeat("0", 63)
	for name, want := range map[string]bool{
		"":                               true,
		"a":                              true,
		"spacemon.electronics":           true,
		"a-b_c.d0":                       true,
		part64:                           true,
		part64 + "x":                     false,
		"A":                              false,
		"0a":                             false,
		"-a":                             false,
		"_a":                             false,
		".a":                             false,
		"a.":                             false,
		"a..b":                           false,
		".":                              false,
		"a b":                            false,
		"a\n":                            false,
		"a.b\n":                          false,
		"é":                              false,
		strings.Repeat("a.", 511) + "aa": true,
		strings.Repeat("a.", 512) + "a":  false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v, want %v", name, got, want)
		}
		if got := ValidName([]byte(name)); got != want {
			t.Errorf("ValidName([]byte(%q)) = %v, want %v", name, got, want)
		}
		if _, err := ParseName(name); (err == nil) != want {
			t.Errorf("ParseName(%q): %v", name, err)
		}
	}
}

func TestUnder(t *testing.T) {
	for _, c := range []struct {
		n, parent Name
		want      bool
	}{
		{"", "", true},
		{"a", "", true},
		{"a", "a", true},
		{"a.b", "a", true},
		{"ab", "a", false},
		{"a", "a.b", false},
		{"", "a", false},
		{"a-b", "a", false},
	} {
		if got := c.n.Under(c.parent); got != c.want {
			t.Errorf("%q.Under(%q) = %v", c.n, c.parent, got)
		}
	}
}

func TestParent(t *testing.T) {
	for _, c := range []struct {
		n, want Name
		ok      bool
	}{{"", "", false}, {"a", "", true}, {"a.b", "a", true}, {"a.b.c", "a.b", true}} {
		if got, ok := c.n.Parent(); got != c.want || ok != c.ok {
			t.Errorf("%q.Parent() = %q, %v", c.n, got, ok)
		}
	}
}

func TestMicros(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 52, 2, 123456000, time.UTC)
	if got := MicrosOf(at).Time(); !got.Equal(at) {
		t.Errorf("%v became %v", at, got)
	}
	for s, want := range map[float64]Micros{0: 0, 1.5: 1500000, -1.5: -1500000, 0.0000004: 0, 0.0000006: 1} {
		if got := MicrosOfSeconds(s); got != want {
			t.Errorf("MicrosOfSeconds(%v) = %d, want %d", s, got, want)
		}
	}
}

// Every reason has a code of its own: they label metrics.
func TestReasonCodes(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reasons {
		code := r.String()
		if code == "" || code == "unknown" || seen[code] {
			t.Errorf("reason %d has code %q", r, code)
		}
		seen[code] = true
	}
}
