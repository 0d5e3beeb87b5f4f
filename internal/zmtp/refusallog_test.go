package zmtp

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestRefusalLog(t *testing.T) {
	logs := &lockedBuffer{w: t.Output()}
	now := time.Unix(1e9, 0)
	l := newRefusalLog(slog.New(slog.NewTextHandler(logs, nil)), "feed", func() time.Time { return now })
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	fault := &PeerError{Reason: refusedProtocol, Err: errors.New("odd bytes")}
	lines := func() int { return strings.Count(logs.String(), "connection refused") }
	for range 5 {
		l.refused(a, fault)
	}
	l.refused(b, fault)
	l.refused(a, &PeerError{Reason: refusedOldVersion, Err: errors.New("old")})
	if n := lines(); n != 3 {
		t.Fatalf("%d lines", n)
	}
	now = now.Add(59 * time.Second)
	l.refused(a, fault)
	if n := lines(); n != 3 {
		t.Fatalf("%d lines", n)
	}
	now = now.Add(time.Second)
	l.refused(a, fault)
	if n := lines(); n != 4 || !strings.Contains(logs.String(), `source=192.0.2.1 reason=protocol err="odd bytes" suppressed=5`) {
		t.Fatalf("%d lines:\n%s", n, logs.String())
	}
	for i := range 3 * refusalLogMax {
		l.refused(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), fault)
		if len(l.seen) > refusalLogMax {
			t.Fatalf("%d are remembered", len(l.seen))
		}
	}
}

// Every reason that is reported is listed, once.
func TestRefuseReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range RefuseReasons {
		if r == "" || seen[r] {
			t.Errorf("reason %q", r)
		}
		seen[r] = true
	}
}
