package storetest

import (
	"testing"

	"tbhist/store"
)

// wantEvicted compares with numbers that are not the model's.
func (f *fixture) wantEvicted(q store.Query, want uint64) {
	f.t.Helper()
	for _, cuts := range [][]int{{whole}, {1}, {0, 2}} {
		a := f.read(q, cuts...)
		if a.exact && a.evicted != want || a.evicted < want {
			f.t.Errorf("%s in pages of %v: %d evicted (exact: %v), want %d", describe(q), cuts, a.evicted, a.exact, want)
		}
	}
}

// wantExact is wantEvicted where the engine has to know.
func (f *fixture) wantExact(q store.Query, want uint64) {
	f.t.Helper()
	f.wantEvicted(q, want)
	if a := f.read(q); !a.exact {
		f.t.Errorf("%s: EvictedExact is not set", describe(q))
	}
}

func testEvicted(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{{Prefix: "a", Limit: store.Limit{Count: 3}}, {Prefix: "a.one", Limit: store.Limit{Count: 1}}})
	for i := range 10 {
		f.append(at("a", 4*i), at("b", 4*i+1), at("a.one", 4*i+2), at("b", 4*i+3))
	} // a: 1 5 … 37, evicted up to 25; a.one: 3 7 … 39, evicted up to 35; b: even, nothing evicted
	f.inEachPlace(func() {
		// The whole tree, bounded by Seq.
		f.wantExact(store.Query{Tree: true}, 7+9)
		f.wantExact(store.Query{Tree: true, After: 25}, 3)
		f.wantExact(store.Query{Tree: true, After: 26, UpTo: 31}, 2)
		f.wantExact(store.Query{Tree: true, After: 26, UpTo: 30}, 1)
		f.wantExact(store.Query{Tree: true, UpTo: 1}, 1)
		f.wantExact(store.Query{Tree: true, UpTo: 2}, 1)
		f.wantExact(store.Query{Tree: true, After: 1, UpTo: 2}, 0)
		f.wantExact(store.Query{Tree: true, After: 35}, 0)
		f.wantExact(store.Query{Tree: true, After: 40}, 0)
		// Last.
		f.wantExact(store.Query{Tree: true, Last: 1}, 0)
		f.wantExact(store.Query{Tree: true, Last: 3}, 2)
		f.wantExact(store.Query{Tree: true, Last: 5}, 2+4)
		f.wantExact(store.Query{Name: "a", Tree: true, Last: 100}, 7+9)
		f.wantExact(store.Query{Name: "a", Last: 3}, 0)
		f.wantExact(store.Query{Name: "a", Last: 4}, 1)
		f.wantExact(store.Query{Name: "b", Last: 100}, 0)
		// Nothing of these was evicted.
		f.wantExact(store.Query{Name: "b"}, 0)
		f.wantExact(store.Query{Name: "b", Since: micros(3), Until: micros(20)}, 0)
		f.wantExact(store.Query{Name: "no.such"}, 0)
		f.wantExact(store.Query{Name: "a", After: 25}, 0)
		f.wantExact(store.Query{Name: "a", Tree: true, After: 35}, 0)
		// An upper bound will do.
		f.wantEvicted(store.Query{Name: "a"}, 7)
		f.wantEvicted(store.Query{Name: "a", After: 20}, 2)
		f.wantEvicted(store.Query{Name: "a", Tree: true, After: 30}, 2)
		f.wantEvicted(store.Query{Name: "a", Tree: true, After: 2, UpTo: 8}, 3)
	})

	// What goes while an answer is read is counted, what was delivered is not.
	a := f.ask(store.Query{Tree: true})
	a.page(5)
	f.append(at("a", 50), at("a", 51), at("a", 52), at("a.one", 53))
	f.maintain()
	a.page(5)
	f.reopenWith(everything(store.Limit{Count: 1})...)
	for !a.done {
		a.page(3)
	}
}

func testEvictedByTime(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{{Prefix: "a", Limit: store.Limit{Count: 3}}})
	for i := range 10 {
		u, v := at("a", 10*i), at("b", 10*i+5)
		u.TS, v.TS = float64(1000+i), float64(1000+i)
		f.append(u, v)
	} // a: seconds 0 … 60 evicted, 70 80 90 kept
	f.inEachPlace(func() {
		for _, q := range []store.Query{{Tree: true}, {Name: "a"}, {Name: "a", Tree: true}} {
			for seconds, want := range map[float64]uint64{0: 7, 10.5: 5, 60: 1} {
				q := q
				q.Since = micros(seconds)
				f.wantEvicted(q, want)
			}
			for _, seconds := range []float64{60.000001, 65, 70, 75, 90, 1000} {
				q := q
				q.Since = micros(seconds)
				f.wantExact(q, 0)
			}
			q.By = store.ByTS
			for seconds, want := range map[float64]uint64{1000: 7, 1001.5: 5, 1006: 1} {
				q := q
				q.Since = tsMicros(seconds)
				f.wantEvicted(q, want)
			}
			for _, seconds := range []float64{1006.000001, 1007, 1008, 1e6} {
				q := q
				q.Since = tsMicros(seconds)
				f.wantExact(q, 0)
			}
		}
		f.wantEvicted(store.Query{Name: "a", Until: micros(30)}, 3)
		f.wantEvicted(store.Query{Name: "a", Since: micros(20), Until: micros(30)}, 1)
	})

	// The clock had stepped: an old update was received later than what is kept.
	f.reopenWith(store.Rule{Prefix: "s", Limit: store.Limit{Count: 2}})
	f.append(at("s", 500), at("s", 100), at("s", 101), at("s", 102))
	f.inEachPlace(func() {
		f.wantEvicted(store.Query{Name: "s", Since: micros(200)}, 1)
		f.wantEvicted(store.Query{Name: "s", Since: micros(101)}, 1)
		f.wantEvicted(store.Query{Name: "s", Since: micros(100), Until: micros(400)}, 1)
		f.wantEvicted(store.Query{Tree: true, Since: micros(450)}, 1)
	})
}
