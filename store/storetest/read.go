package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// seqsOf lists what an answer delivered.
func (a *answer) seqsOf() []uint64 {
	out := make([]uint64, 0, len(a.delivered))
	for s := range a.delivered {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// want compares an answer with one that is not the model's.
func (f *fixture) want(q store.Query, want ...uint64) {
	f.t.Helper()
	for _, cuts := range [][]int{{whole}, {1}, {0, 2, 1}} {
		if got := f.read(q, cuts...).seqsOf(); !slices.Equal(got, want) {
			f.t.Errorf("%s in pages of %v: %v, want %v", describe(q), cuts, got, want)
		}
	}
}

// inEachPlace runs the checks on a history as it was just written, when all
// background work was done, and after it was opened again.
func (f *fixture) inEachPlace(check func()) {
	f.t.Helper()
	check()
	f.maintain()
	check()
	f.reopen()
	check()
}

// at makes an update received so many seconds after the start.
func at(name thing.Name, seconds int) thing.Update {
	received := thing.MicrosOf(start.Add(time.Duration(seconds) * time.Second))
	return thing.Update{Name: name, Data: fmt.Append(nil, seconds), TS: received.Seconds(), Received: received}
}

// micros points at an instant so many seconds after the start.
func micros(seconds float64) *thing.Micros {
	m := thing.MicrosOf(start) + thing.MicrosOfSeconds(seconds)
	return &m
}

func testReadMembers(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	f.append(at("", 1), at("a", 2), at("a.b", 3))
	f.append(at("a-b", 4), at("ab", 5))
	f.append(at("a.b.c", 6), at("a", 7), at("", 8), at("b", 9), at("a.b", 10))
	f.inEachPlace(func() {
		f.want(store.Query{}, 1, 8)
		f.want(store.Query{Name: "a"}, 2, 7)
		f.want(store.Query{Tree: true}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		f.want(store.Query{Name: "a", Tree: true}, 2, 3, 6, 7, 10)
		f.want(store.Query{Name: "a.b", Tree: true}, 3, 6, 10)
		f.want(store.Query{Name: "a.b.c.d", Tree: true})
		f.want(store.Query{Name: "c"})
		f.want(store.Query{Name: "a.b", After: 3}, 10)
		f.want(store.Query{Name: "a.b", After: 2, UpTo: 3}, 3)
		f.want(store.Query{Tree: true, After: 9}, 10)
		f.want(store.Query{Tree: true, After: 10})
		f.want(store.Query{Tree: true, After: 100})
		f.want(store.Query{Tree: true, UpTo: 2}, 1, 2)
		f.want(store.Query{Tree: true, UpTo: 100, After: 8}, 9, 10)
		f.want(store.Query{Tree: true, After: 5, UpTo: 5})
		f.want(store.Query{Tree: true, After: 6, UpTo: 3})
		f.want(store.Query{Tree: true, Limit: 1}, 1)
		f.want(store.Query{Tree: true, Limit: 4, After: 2}, 3, 4, 5, 6)
		f.want(store.Query{Tree: true, Limit: 10}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		f.want(store.Query{Tree: true, Limit: 11}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		f.want(store.Query{Name: "a", Tree: true, Limit: 2, Last: 1}, 6, 7)
		f.want(store.Query{Tree: true, Since: micros(3), Until: micros(6)}, 3, 4, 5)
		f.want(store.Query{Tree: true, Since: micros(3.000001), Until: micros(6.000001)}, 4, 5, 6)
		f.want(store.Query{Tree: true, Since: micros(6), Until: micros(6)})
		f.want(store.Query{Tree: true, Since: micros(6), Until: micros(3)})
		f.want(store.Query{Name: "a", Tree: true, Since: micros(3), By: store.ByTS, UpTo: 9, Last: 1}, 3, 6, 7)
	})
}

func testReadTimes(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	type times struct {
		received thing.Micros
		ts       float64
	}
	var batch []thing.Update
	for i, c := range []times{ // the clock steps back and forth
		{100, 5}, {50, 5.0000004}, {200, 5.0000006}, {-10, -3.5}, {0, 0}, {150, 1e11}, {1e17, -1e11}, {150, 5e-324},
	} {
		batch = append(batch, thing.Update{Name: "a", Data: fmt.Append(nil, i), TS: c.ts, Received: c.received})
	}
	f.append(batch[:3]...)
	f.append(batch[3:]...)
	at := func(m thing.Micros) *thing.Micros { return &m }
	f.inEachPlace(func() {
		f.want(store.Query{Name: "a", Since: at(100)}, 1, 3, 6, 7, 8)
		f.want(store.Query{Name: "a", Until: at(100)}, 2, 4, 5)
		f.want(store.Query{Name: "a", Since: at(50), Until: at(151)}, 1, 2, 6, 8)
		f.want(store.Query{Name: "a", Since: at(0)}, 1, 2, 3, 5, 6, 7, 8)
		f.want(store.Query{Name: "a", Until: at(0)}, 4)
		f.want(store.Query{Name: "a", Since: at(1e17)}, 7)
		f.want(store.Query{Name: "a", Since: at(100), Last: 2}, 7, 8)
		f.want(store.Query{Name: "a", Until: at(101), Last: 3}, 2, 4, 5)
		// Source time, to the nearest microsecond.
		f.want(store.Query{Name: "a", By: store.ByTS, Since: at(5_000_000), Until: at(5_000_001)}, 1, 2)
		f.want(store.Query{Name: "a", By: store.ByTS, Since: at(5_000_001)}, 3, 6)
		f.want(store.Query{Name: "a", By: store.ByTS, Until: at(0)}, 4, 7)
		f.want(store.Query{Name: "a", By: store.ByTS, Since: at(0), Until: at(1)}, 5, 8)
		f.want(store.Query{Name: "a", By: store.ByTS, Since: at(1e17)}, 6)
		f.want(store.Query{Name: "a", By: store.ByTS, Until: at(-1e17)})
		f.want(store.Query{Name: "a", By: store.ByTS, Until: at(1 - 1e17)}, 7)
		f.want(store.Query{Name: "a", By: store.ByTS, Until: at(5_000_000), Limit: 2}, 4, 5)
	})
}

func testReadMatch(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Count: 3}))
	for i := range 10 {
		f.append(at("a", i), at("a.b", i), at("c", i), at("c.d", i))
	}
	ends := func(n thing.Name) bool { return n == "a.b" || n == "c" }
	f.inEachPlace(func() {
		f.want(store.Query{Tree: true, Match: ends}, 30, 31, 34, 35, 38, 39)
		f.want(store.Query{Name: "a", Tree: true, Match: ends}, 30, 34, 38)
		f.want(store.Query{Name: "a", Match: ends})
		f.want(store.Query{Name: "c", Match: ends, After: 31}, 35, 39)
		f.want(store.Query{Tree: true, Match: ends, Last: 1, UpTo: 36}, 34, 35)
		f.want(store.Query{Tree: true, Match: func(thing.Name) bool { return false }})
	})
}

func testReadPages(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Count: 20}))
	names := []thing.Name{"a", "a.b", "b", ""}
	for i := range 60 {
		f.append(at(names[i%4], i), at(names[i%3], i), at("often", i))
	}
	f.inEachPlace(func() {
		for _, q := range []store.Query{
			{Tree: true},
			{Name: "a", Tree: true},
			{Name: "a"},
			{Name: "often"},
			{Tree: true, Last: 4},
			{Tree: true, Limit: 17},
			{Tree: true, Last: 7, Limit: 11},
			{Tree: true, After: 70, UpTo: 140},
			{Name: "a", Tree: true, Since: micros(20), Until: micros(50)},
			{Name: "a", Tree: true, Since: micros(20), Last: 5},
		} {
			for _, cuts := range [][]int{{whole}, {1}, {7}, {0, 1, 0, 2, 0, 3, 5}, {3, whole}} {
				f.read(q, cuts...)
			}
		}
	})
}

func testReadLast(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{{Prefix: "a", Limit: store.Limit{Count: 3}}})
	for i := range 5 {
		f.append(at("a", 3*i), at("b", 3*i+1), at("a.b", 3*i+2))
	} // a: 1 4 7 10 13, the first two evicted; b: 2 5 8 11 14; a.b: 3 6 9 12 15, the first two evicted
	f.inEachPlace(func() {
		f.want(store.Query{Tree: true, Last: 1}, 13, 14, 15)
		f.want(store.Query{Tree: true, Last: 2}, 10, 11, 12, 13, 14, 15)
		f.want(store.Query{Tree: true, Last: 4}, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15)
		f.want(store.Query{Tree: true, Last: 2, UpTo: 10}, 5, 7, 8, 9, 10)
		f.want(store.Query{Tree: true, Last: 2, After: 12}, 13, 14, 15)
		f.want(store.Query{Tree: true, Last: 2, Until: micros(10)}, 5, 7, 8, 9, 10)
		f.want(store.Query{Tree: true, Last: 2, Limit: 3}, 10, 11, 12)
		f.want(store.Query{Name: "a", Last: 100}, 7, 10, 13)
		f.want(store.Query{Name: "a", Tree: true, Last: 100}, 7, 9, 10, 12, 13, 15)
	})

	// What is newest is settled at the first page.
	a := f.ask(store.Query{Tree: true, Last: 2})
	a.page(2)
	f.append(at("a", 20), at("b", 21), at("new", 22))
	for !a.done {
		a.page(1)
	}
	if got, want := a.seqsOf(), []uint64{10, 11, 12, 13, 14, 15}; !slices.Equal(got, want) {
		t.Errorf("last 2, with updates while it is read: %v, want %v", got, want)
	}
	f.reopenWith(store.Rule{Prefix: "a", Limit: store.Limit{Count: 2}})
	a = f.ask(store.Query{Tree: true, Last: 2})
	a.page(1)
	f.append(at("a", 30), at("a", 31))
	f.maintain()
	for !a.done {
		a.page(2)
	}
}

// tsMicros points at an instant of source time.
func tsMicros(seconds float64) *thing.Micros {
	m := thing.MicrosOfSeconds(seconds)
	return &m
}
