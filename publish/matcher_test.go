package publish

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"tbhist/internal/wire"
	"tbhist/thing"
)

func fmtName(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }

// randomPrefix may cover everything, end in the middle of a name, or reach
// behind it, and may also be nonsense.
func randomPrefix(rnd *rand.Rand) []byte {
	switch rnd.IntN(8) {
	case 0:
		return []byte(updateHead[:rnd.IntN(len(updateHead)+1)])
	case 1:
		return randomText(rnd, 4)
	case 2:
		return fmtName(`%sa", "data": %d`, updateHead, rnd.IntN(30))
	case 3:
		return fmtName(`%sa.b"`, updateHead)
	case 4:
		return fmtName(`%sa.`, updateHead)
	}
	return append([]byte(updateHead), randomText(rnd, 5)...)
}

func TestMatcherAgainstAllPrefixes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	names := []thing.Name{"", "a", "b", "a.b", "a.a", "b.a.b", "aa", "ab.a", "a.b.a"}
	hits := 0
	for range 3000 {
		var set, copied [][]byte
		for range rnd.IntN(12) {
			p := randomPrefix(rnd)
			set, copied = append(set, p), append(copied, bytes.Clone(p))
		}
		m := newMatcher(copied)
		q := m.query()
		for range 20 {
			name := names[rnd.IntN(len(names))]
			line := wire.AppendUpdate(nil, &thing.Update{Name: name, Data: fmt.Append(nil, rnd.IntN(400)), Seq: 1, ThingSeq: 1})
			want := false
			for _, p := range set {
				want = want || bytes.HasPrefix(line, p)
			}
			if got := m.update(line); got != want {
				t.Fatalf("update %q matches %v, want %v: %q", line, got, want, set)
			}
			asked := inTree(name, q.Name, q.Tree) && (q.Match == nil || q.Match(name))
			if want && !asked {
				t.Fatalf("%q matches, and the question %+v leaves it out: %q", line, q, set)
			}
			if m.byName && asked != want {
				t.Fatalf("by name alone, %q is asked for %v and matches %v: %q", line, asked, want, set)
			}
			if want {
				hits++
			}
		}
		for _, msg := range []string{`{"type": "thing_snapshot", "ts": 5.0`, `{"type": "thing_heartbeat", "epoch": "e"`} {
			want := false
			for _, p := range set {
				want = want || bytes.HasPrefix([]byte(msg), p)
			}
			if got := m.other([]byte(msg)); got != want {
				t.Fatalf("%q matches %v, want %v: %q", msg, got, want, set)
			}
		}
	}
	if hits < 1000 {
		t.Errorf("only %d matches were tried", hits)
	}
}

func TestQueryNamesOneThingOrTree(t *testing.T) {
	for _, tree := range []bool{false, true} {
		q := newMatcher(wire.Prefix("shop.till", tree)).query()
		if q.Name != "shop.till" || q.Tree != tree || q.Match != nil {
			t.Errorf("tree %v: %+v", tree, q)
		}
	}
	if q := newMatcher(wire.Prefix("", false)).query(); q.Name != "" || q.Tree || q.Match != nil {
		t.Errorf("the root alone: %+v", q)
	}
}

func TestRelated(t *testing.T) {
	for prefix, want := range map[string]bool{
		"": true, "{": true, `{"type": "thing_`: true, wire.SnapshotPrefix: true,
		wire.SnapshotPrefix + `, "ts"`: true, `{"type": "thing_u`: false, "x": false,
	} {
		if got := related([]byte(prefix), wire.SnapshotPrefix); got != want {
			t.Errorf("%q: %v", prefix, got)
		}
	}
}

func BenchmarkMatcherOneThingMiss(b *testing.B) {
	m := newMatcher(wire.Prefix("sensors.t0001", false))
	line := wire.AppendUpdate(nil, &thing.Update{Name: "sensors.u0017", Data: []byte("5")})
	for b.Loop() {
		m.update(line)
	}
}
