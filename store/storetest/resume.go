package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// Answers go on over everything that may happen between two pages.
func testResume(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Count: 12}))
	names := []thing.Name{"a", "a.b", "c", ""}
	write := func(n int) {
		for i := range n {
			f.append(at(names[i%4], i), at(names[i%3], i))
		}
	}
	write(40)
	var answers []*answer
	for _, q := range []store.Query{
		{Tree: true},
		{Name: "a", Tree: true},
		{Name: "c"},
		{Tree: true, Last: 5},
		{Tree: true, Limit: 30},
		{Tree: true, Since: micros(5), Until: micros(38)},
		{Tree: true, After: 20, UpTo: 90},
		{Name: "a", Tree: true, Last: 20, Limit: 9},
		{Tree: true, Match: func(n thing.Name) bool { return n != "c" }},
	} {
		answers = append(answers, f.ask(q))
	}
	for i, between := range []func(){
		func() {},
		f.maintain,
		f.reopen,
		func() { write(3) },
		f.maintain,
		func() { write(20); f.maintain() },
		func() { f.reopenWith(everything(store.Limit{Count: 5})...) },
		f.maintain,
		func() { f.reopenWith() },
		func() { write(2) },
	} {
		between()
		for n, a := range answers {
			if !a.done {
				a.page((i + n) % 4)
			}
		}
	}
	for _, a := range answers {
		for !a.done {
			a.page(2)
		}
	}
}

func testBadResume(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Count: 10}))
	other := newFixture(t, open, everything(store.Limit{Count: 10}))
	for _, f := range []*fixture{f, other} {
		for i := range 30 {
			f.append(at("a", i), at("b", i))
		}
	}
	queries := []store.Query{{Tree: true}, {Name: "a", Last: 5}, {Tree: true, Limit: 7, Since: micros(3)}}
	good := func(f *fixture, q store.Query) []byte {
		a := f.ask(q)
		a.page(3)
		return a.next
	}
	f.inEachPlace(func() {
		for _, q := range queries {
			for what, resume := range map[string][]byte{
				"of another history": good(other, q),
				"one byte":           {0},
				"zeros":              make([]byte, 64),
				"ones":               bytes.Repeat([]byte{0xff}, 64),
				"text":               []byte("not a position in this history at all"),
				"long":               []byte(strings.Repeat("long", 1<<19)),
			} {
				if _, err := f.resume(q, resume); !errors.Is(err, store.ErrBadResume) {
					t.Errorf("%s resumed with a position %s: %v, want ErrBadResume", describe(q), what, err)
				}
			}
		}
	})

	// Damaged ones are refused, or else the answer is one to the question.
	seed := newSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, q := range queries {
		sound := good(f, q)
		if _, err := f.resume(q, sound); err != nil {
			t.Fatalf("%s: an undamaged position: %v", describe(q), err)
		}
		for range 300 {
			bad := bytes.Clone(sound)
			switch rnd.IntN(4) {
			case 0:
				bad = bad[:1+rnd.IntN(len(bad))]
			case 1:
				for range 1 + rnd.IntN(8) {
					bad = append(bad, byte(rnd.Uint32()))
				}
			case 2:
				bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
			case 3:
				for range 4 {
					bad[rnd.IntN(len(bad))] = byte(rnd.Uint32())
				}
			}
			problem, err := f.resume(q, bad)
			if err != nil && !errors.Is(err, store.ErrBadResume) {
				t.Fatalf("%s resumed with %x: %v, want ErrBadResume", describe(q), bad, err)
			}
			if problem != "" {
				t.Fatalf("%s resumed with %x: %s", describe(q), bad, problem)
			}
		}
	}
	f.check()
}

// resume reads a page from any position, and tells of updates that are not
// in history, do not match or do not ascend.
func (f *fixture) resume(q store.Query, resume []byte) (problem string, err error) {
	about := &question{Query: q}
	q.Resume = resume
	last := uint64(0)
	_, err = f.e.Read(f.t.Context(), q, func(u *thing.Update) bool {
		switch {
		case u.Seq <= last || u.Seq > f.m.head():
			problem = fmt.Sprintf("update %d came after %d, head is %d", u.Seq, last, f.m.head())
		case f.m.log[u.Seq-1].evicted() || !about.filters(f.m.log[u.Seq-1]):
			problem = fmt.Sprintf("update %d of %q came, which is evicted or not asked for", u.Seq, u.Name)
		default:
			problem = diff(u, &f.m.log[u.Seq-1].Update)
		}
		last = u.Seq
		return problem == ""
	})
	return problem, err
}
