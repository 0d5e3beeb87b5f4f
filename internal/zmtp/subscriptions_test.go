package zmtp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The tree agrees with a map of counts, over chance prefixes that share
// beginnings.
func TestSubscriptionsModel(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 9))
		word := func(most int) string {
			b := make([]byte, r.IntN(most))
			for i := range b {
				b[i] = "ab"[r.IntN(2)]
			}
			return string(b)
		}
		s := NewSubscriptions(Limits{})
		model := map[string]int{}
		for range 3000 {
			p := word(7)
			if r.IntN(2) == 0 {
				first, err := s.Add([]byte(p))
				if model[p]++; err != nil || first != (model[p] == 1) {
					t.Fatalf("Add(%q) = %v, %v", p, first, err)
				}
			} else {
				last := s.Remove([]byte(p))
				want := model[p] == 1
				if model[p]--; model[p] <= 0 {
					delete(model, p)
				}
				if last != want {
					t.Fatalf("Remove(%q) = %v", p, last)
				}
			}
			msg, want := word(10), false
			for p := range model {
				want = want || strings.HasPrefix(msg, p)
			}
			if s.Match([]byte(msg)) != want {
				t.Fatalf("Match(%q) is not %v of %v", msg, want, model)
			}
			if s.Len() != len(model) {
				t.Fatalf("Len is %d of %v", s.Len(), model)
			}
		}
		var got, want []string
		s.Each(func(p []byte) { got = append(got, string(p)) })
		for p := range model {
			want = append(want, p)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("Each gave %q, not %q", got, want)
		}
		for _, p := range want {
			for range model[p] {
				s.Remove([]byte(p))
			}
		}
		if s.Len() != 0 || s.bytes != 0 || len(s.root.kids) != 0 {
			t.Fatalf("emptied, %d prefixes and %d bytes are left", s.Len(), s.bytes)
		}
	}
}

func TestSubscriptionsCaps(t *testing.T) {
	s := NewSubscriptions(Limits{MaxSubscriptions: 3, MaxSubscriptionBytes: 10})
	add := func(p string, want bool) {
		t.Helper()
		_, err := s.Add([]byte(p))
		var fault *PeerError
		if err == nil != want || err != nil && (!errors.As(err, &fault) || fault.Reason != refusedSubscriptions) {
			t.Errorf("Add(%q): %v", p, err)
		}
	}
	add("12345", true)
	add("123456", false)
	add("54321", true)
	add("54321", true)
	add("", true)
	add("", true)
	add("x", false)
	s.Remove([]byte("12345"))
	add("x", true)
	add("y", false)
}

func TestSubscriptionsTogether(t *testing.T) {
	s := NewSubscriptions(Limits{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				p := fmt.Appendf(nil, "%d.%d", g, i)
				if _, err := s.Add(p); err != nil {
					t.Error(err)
				}
				if !s.Match(append(p, " and more"...)) {
					t.Errorf("%s does not match", p)
				}
				s.Each(func([]byte) {})
				if !s.Remove(p) {
					t.Errorf("%s was not there", p)
				}
			}
		})
	}
	wg.Wait()
	if s.Len() != 0 {
		t.Error("prefixes are left")
	}
}

// Prefixes that share nothing or everything do not make matching slow or
// the tree large.
func TestSubscriptionsDeep(t *testing.T) {
	s := NewSubscriptions(Limits{MaxSubscriptionBytes: 32 << 20})
	for n := 1; n <= 4000; n++ {
		if _, err := s.Add([]byte(strings.Repeat("a", n))); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Match([]byte("abc")) || s.Match([]byte("b")) {
		t.Error("wrong match")
	}
	for n := 1; n <= 4000; n++ {
		if !s.Remove([]byte(strings.Repeat("a", n))) {
			t.Fatalf("%d bytes were not there", n)
		}
	}
}

// The subscriptions of all connections together are bounded; what a
// connection gives back, or ends with, is there for others, and its first few
// are always taken.
func TestSubscriptionsOfAll(t *testing.T) {
	l := DefaultLimits()
	b := newBudget(10 * prefixCost(4))
	conns := make([]*Conn, 3)
	for i := range conns {
		conns[i], _ = pipe(t, Pub, l)
		conns[i].prefixes = b
	}
	add := func(c *Conn, from, n int) (taken int) {
		for i := from; i < from+n; i++ {
			if _, err := c.Subscriptions().Add(fmt.Appendf(nil, "%04d", i)); err == nil {
				taken++
			}
		}
		return taken
	}
	if n := add(conns[0], 0, freePrefixes+10); n != freePrefixes+10 {
		t.Fatalf("%d subscriptions were taken, want %d", n, freePrefixes+10)
	}
	if n := add(conns[1], 0, freePrefixes+1); n != freePrefixes {
		t.Errorf("another connection got %d subscriptions, want %d", n, freePrefixes)
	}
	for i := range 4 {
		conns[0].Subscriptions().Remove(fmt.Appendf(nil, "%04d", i))
	}
	if n := add(conns[2], 0, freePrefixes+5); n != freePrefixes+4 {
		t.Errorf("after 4 were given back a third got %d, want %d", n, freePrefixes+4)
	}
	b.giveAll(conns[0])
	b.giveAll(conns[1])
	b.giveAll(conns[2])
	if b.used != 0 {
		t.Errorf("%d bytes are still booked", b.used)
	}
}
