package publish

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomText is short and of few letters, so that prefixes meet often.
func randomText(rnd *rand.Rand, most int) []byte {
	b := make([]byte, rnd.IntN(most+1))
	for i := range b {
		b[i] = `ab."`[rnd.IntN(4)]
	}
	return b
}

// The trie finds whoever a look at every prefix finds, whatever was added
// and removed before.
func TestTrieAgainstAllPrefixes(t *testing.T) {
	type entry struct {
		prefix string
		who    int
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	var tr trie[int]
	held := map[entry]bool{}
	for round := uint64(1); round <= 4000; round++ {
		e := entry{string(randomText(rnd, 6)), rnd.IntN(8)}
		switch {
		case held[e]:
			if !tr.remove([]byte(e.prefix), e.who) {
				t.Fatalf("%v cannot be removed", e)
			}
			delete(held, e)
		case rnd.IntN(3) > 0:
			tr.add([]byte(e.prefix), e.who)
			held[e] = true
		default:
			if tr.remove([]byte(e.prefix), e.who) {
				t.Fatalf("%v was removed and never added", e)
			}
		}
		msg := randomText(rnd, 9)
		got := tr.find(msg, round, nil)
		var want []int
		for h := range held {
			if bytes.HasPrefix(msg, []byte(h.prefix)) {
				want = append(want, h.who)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%q: found %v, want %v of %v", msg, got, want, held)
		}
		if again := tr.find(msg, round, nil); len(again) != 0 {
			t.Fatalf("%q: found %v twice in one round", msg, again)
		}
		if tr.held != len(held) {
			t.Fatalf("%d held, want %d", tr.held, len(held))
		}
	}
	for h := range held {
		tr.remove([]byte(h.prefix), h.who)
	}
	if len(tr.root.kids) != 0 || len(tr.root.who) != 0 {
		t.Errorf("an empty trie has %d kids", len(tr.root.kids))
	}
}

func BenchmarkTrieMiss(b *testing.B) {
	var tr trie[int]
	for i := range 1000 {
		tr.add(fmtName("sensors.t%04d\"", i), i)
	}
	msg := fmtName("sensors.u%04d\", \"data\": 5", 17)
	var found []int
	var round uint64
	for b.Loop() {
		round++
		found = tr.find(msg, round, found[:0])
	}
}
