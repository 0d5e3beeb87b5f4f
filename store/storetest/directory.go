package storetest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// wantAsOf compares a past directory with one that is not the model's: for
// each Thing the Data of its entry, "?" where it is unknown.
func (f *fixture) wantAsOf(q store.AsOf, want ...string) {
	f.t.Helper()
	f.asOf(q, whole)
	f.asOf(q, 1)
	f.asOf(q, 2)
	var got []string
	_, err := f.e.AsOf(f.t.Context(), q, func(e *store.PastEntry) bool {
		data := string(e.Update.Data)
		if e.Unknown {
			data = "?"
		}
		got = append(got, fmt.Sprintf("%s=%s", e.Update.Name, data))
		return true
	})
	if err != nil || !slices.Equal(got, want) {
		f.t.Errorf("directory of %q (tree %v) at %d: %v, %v; want %v", q.Name, q.Tree, q.At, got, err, want)
	}
}

func testAsOf(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{{Prefix: "short", Limit: store.Limit{Count: 2}}})
	f.append(at("a", 10), at("a-b", 11), at("a.b", 12), at("ab", 13), at("", 14))
	f.append(at("short", 1), at("short", 15), at("short", 20), at("short", 30)) // 20 and 30 are kept
	f.append(at("a", 20), at("late", 100))
	f.append(at("stepped", 50), at("stepped", 10), at("stepped", 60)) // by Seq, not by time
	f.inEachPlace(func() {
		f.wantAsOf(store.AsOf{Tree: true, At: *micros(1000)},
			"=14", "a=20", "a-b=11", "a.b=12", "ab=13", "late=100", "short=30", "stepped=60")
		f.wantAsOf(store.AsOf{Tree: true, At: *micros(12)},
			"a=10", "a-b=11", "a.b=12", "short=?", "stepped=10")
		f.wantAsOf(store.AsOf{Tree: true, At: *micros(19.999999)},
			"=14", "a=10", "a-b=11", "a.b=12", "ab=13", "short=?", "stepped=10")
		f.wantAsOf(store.AsOf{Tree: true, At: *micros(20)},
			"=14", "a=20", "a-b=11", "a.b=12", "ab=13", "short=20", "stepped=10")
		f.wantAsOf(store.AsOf{Tree: true, At: *micros(55)},
			"=14", "a=20", "a-b=11", "a.b=12", "ab=13", "short=30", "stepped=10")
		f.wantAsOf(store.AsOf{Name: "a", Tree: true, At: *micros(15)}, "a=10", "a.b=12")
		f.wantAsOf(store.AsOf{Name: "a", At: *micros(15)}, "a=10")
		f.wantAsOf(store.AsOf{At: *micros(15)}, "=14")
		f.wantAsOf(store.AsOf{Name: "a.b.c", Tree: true, At: *micros(15)})
		f.wantAsOf(store.AsOf{Name: "late", Tree: true, At: *micros(15)})
		after := thing.Name("a-b")
		f.wantAsOf(store.AsOf{Tree: true, At: *micros(12), After: &after}, "a.b=12", "short=?", "stepped=10")
		after = ""
		f.wantAsOf(store.AsOf{Tree: true, At: *micros(15), After: &after},
			"a=10", "a-b=11", "a.b=12", "ab=13", "short=?", "stepped=10")
		after = "zz"
		f.wantAsOf(store.AsOf{Tree: true, At: *micros(15), After: &after})
		f.asOf(store.AsOf{Tree: true, At: *micros(0.5)}, whole) // before everything
		f.asOf(store.AsOf{Tree: true, At: math.MinInt64}, whole)
		f.asOf(store.AsOf{Tree: true, At: math.MaxInt64}, 3)
	})
}

func testAsOfDoc(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{{Prefix: "short", Limit: store.Limit{Count: 2}}})
	with := func(u thing.Update, doc string) thing.Update {
		if doc != "" {
			u.Doc = []byte(doc)
		}
		return u
	}
	f.append(
		with(at("a", 1), ""), with(at("a", 2), `"x"`), with(at("a", 3), `""`), with(at("a", 4), `"y"`), with(at("a", 5), ""),
		// The update that set it is evicted; it is in force all the same.
		with(at("short.one", 1), `"x"`), with(at("short.one", 2), ""), with(at("short.one", 3), ""), with(at("short.one", 4), "0"),
		// Another followed.
		with(at("short.two", 1), `"x"`), with(at("short.two", 2), ""), with(at("short.two", 3), ""), with(at("short.two", 4), `"y"`),
	)
	f.inEachPlace(func() {
		for seconds := range 6 {
			f.asOf(store.AsOf{Tree: true, At: *micros(float64(seconds))}, whole)
		}
		for seconds, want := range map[float64]string{1: "", 2: `"x"`, 3: `"x"`, 4: `"y"`, 5: `"y"`} {
			_, err := f.e.AsOf(t.Context(), store.AsOf{Name: "a", At: *micros(seconds)}, func(e *store.PastEntry) bool {
				if string(e.Doc) != want {
					t.Errorf("documentation URL of a at %v s is %s, want %q", seconds, short(e.Doc), want)
				}
				return true
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func testKept(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{{Prefix: "a", Limit: store.Limit{Count: 3}}})
	for i := range 10 {
		f.append(at("a", i), at("b", i))
	}
	f.append(at("a.one", 5))
	names := []thing.Name{"b", "none", "a", "b", "", "a.one"}
	f.inEachPlace(func() {
		got := make([]string, len(names))
		err := f.e.Kept(t.Context(), names, func(i int, updates uint64, oldest thing.Micros) {
			if updates > 0 {
				got[i] += fmt.Sprintf("%d from %v", updates, (oldest - thing.MicrosOf(start)).Seconds())
			} else {
				got[i] += "none"
			}
		})
		if want := []string{"10 from 0", "none", "3 from 7", "10 from 0", "none", "1 from 5"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("Kept of %q: %q, %v; want %q", names, got, err, want)
		}
		err = f.e.Kept(t.Context(), nil, func(int, uint64, thing.Micros) { t.Error("no name, and yet an answer") })
		if err != nil {
			t.Error(err)
		}
	})
}

func testState(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Count: 4}))
	compare := func(head uint64, things int, updates uint64) {
		t.Helper()
		f.inEachPlace(func() {
			s := f.e.State()
			if s.Head != head || s.Things != things || s.Updates != updates {
				t.Errorf("head %d, %d Things, %d updates; want %d, %d, %d", s.Head, s.Things, s.Updates, head, things, updates)
			}
			f.check()
		})
	}
	compare(0, 0, 0)
	f.append(at("a", 1))
	compare(1, 1, 1)
	for i := range 10 {
		f.append(at("a", 100+i), at("b", 200+i))
	}
	compare(21, 2, 8)
	f.reopenWith(everything(store.Limit{Count: 1})...)
	compare(21, 2, 2)
	if oldest := f.e.State().Oldest; oldest > *micros(109) {
		t.Errorf("Oldest is %d, later than the oldest update there is, %d", oldest, *micros(109))
	}
}
