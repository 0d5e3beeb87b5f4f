package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// wantKept compares with a number that is not the model's.
func (f *fixture) wantKept(name thing.Name, want uint64) {
	f.t.Helper()
	err := f.e.Kept(f.t.Context(), []thing.Name{name}, func(_ int, updates uint64, _ thing.Micros) {
		if updates != want {
			f.t.Errorf("%q has %d updates, want %d", name, updates, want)
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// some makes updates of one Thing, received now.
func (f *fixture) some(name thing.Name, n int) []thing.Update {
	batch := make([]thing.Update, n)
	for i := range batch {
		batch[i] = f.update(name, fmt.Sprintf("[%d,%d]", f.m.head(), i))
	}
	return batch
}

func everything(l store.Limit) []store.Rule { return []store.Rule{{Limit: l}} }

func testCount(t *testing.T, open Open) {
	for _, count := range []int64{1, 3, 10} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			f := newFixture(t, open, everything(store.Limit{Count: count}))
			for i, size := range []int{1, 1, 1, 1, 2, 3, 25, 1, 1, 4} {
				f.append(append(f.some("a", size), f.some("b.c", 1)...)...)
				f.check()
				if i%3 == 1 {
					f.maintain()
					f.check()
				}
			}
			f.wantKept("a", uint64(count))
			f.wantKept("b.c", uint64(count))
			f.reopen()
			f.check()
			f.append(f.some("a", 1)...)
			f.check()
			f.wantKept("a", uint64(count))
		})
	}
}

func testBytes(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Bytes: 100}))
	sized := func(data, doc int) thing.Update {
		u := f.update("a", `"`+strings.Repeat("x", data-2)+`"`)
		if doc > 0 {
			u.Doc = []byte(`"` + strings.Repeat("d", doc-2) + `"`)
		}
		return u
	}
	for _, step := range []struct {
		batch []thing.Update
		kept  uint64
	}{
		{[]thing.Update{sized(40, 0)}, 1},
		{[]thing.Update{sized(60, 0)}, 2},                                // 100: just full
		{[]thing.Update{sized(2, 0)}, 2},                                 // 60+2
		{[]thing.Update{sized(20, 18)}, 3},                               // the documentation URL counts: 100 again
		{[]thing.Update{sized(2, 0)}, 3},                                 // 2+38+2
		{[]thing.Update{sized(30, 71)}, 1},                               // alone over the limit, never evicted
		{[]thing.Update{sized(2, 0)}, 1},                                 // until it is not the newest
		{[]thing.Update{sized(50, 0), sized(48, 0), sized(2, 0)}, 3},     // 100
		{[]thing.Update{sized(500, 0), sized(50, 0), sized(50, 0)}, 2},   // over the limit and gone within a batch
		{[]thing.Update{sized(10, 0), sized(10, 0), sized(10, 2000)}, 1}, // and at its end
		{[]thing.Update{sized(98, 2)}, 1},                                // just full, alone
		{[]thing.Update{sized(33, 0), sized(33, 0), sized(33, 0)}, 3},    // 99
		{[]thing.Update{sized(34, 0), sized(33, 0), sized(32, 0)}, 3},    // 99
		{[]thing.Update{sized(2, 0), sized(2, 0), sized(2, 0)}, 5},       // 33+32+6
		{[]thing.Update{sized(2, 20), sized(2, 2), sized(2, 3)}, 6 + 1},  // 32+6+31
		{[]thing.Update{sized(25, 0), sized(25, 25), sized(10, 15)}, 3},  // 100
		{[]thing.Update{sized(100, 0), sized(100, 0), sized(100, 0)}, 1}, // each just fits
		{[]thing.Update{sized(101, 0), sized(101, 0), sized(101, 0)}, 1}, // none does
		{[]thing.Update{sized(2, 0)}, 1},
		{[]thing.Update{sized(96, 0), sized(2, 0), sized(2, 0)}, 3}, // 100
		{[]thing.Update{sized(51, 0), sized(50, 0)}, 1},             // 101: just over
		{[]thing.Update{sized(50, 0), sized(48, 3)}, 1},             // with its documentation URL
	} {
		f.append(step.batch...)
		f.check()
		f.wantKept("a", step.kept)
	}
}

func testAge(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Age: time.Hour}))
	at := func(name thing.Name, before time.Duration) thing.Update {
		u := f.update(name, fmt.Sprint(before.Microseconds()))
		u.Received = thing.MicrosOf(f.clock.Now().Add(-before))
		return u
	}
	settle := func(want uint64) {
		t.Helper()
		f.maintain()
		f.check()
		f.wantKept("a", want)
	}
	f.append(at("a", 30*time.Minute), at("a", 20*time.Minute), at("a", 10*time.Minute), at("quiet", 30*time.Minute))
	settle(3)
	f.clock.step(30 * time.Minute) // the first is just an hour old
	settle(3)
	f.clock.step(time.Microsecond)
	settle(2)
	f.clock.step(-2 * time.Hour) // nothing comes back
	settle(2)
	f.clock.step(2*time.Hour + 10*time.Minute)
	settle(1)
	f.clock.step(24 * time.Hour) // the newest stays
	settle(1)
	f.wantKept("quiet", 1)

	// Oldest first, up to the first that is young enough.
	f.append(at("a", 2*time.Hour), at("a", 5*time.Minute), at("a", 3*time.Hour), at("a", time.Minute))
	settle(3)
	f.reopen()
	f.check()
	f.clock.step(57 * time.Minute)
	settle(1) // the 5, the 3 h behind it; what is left is 58 min old
	f.append(at("a", 90*time.Minute), at("a", 80*time.Minute))
	settle(3)
	f.clock.step(3 * time.Minute)
	settle(1) // all are too old
	f.reopen()
	f.check()
}

func testAgeDistrust(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Age: time.Hour}), func(o *Options) { o.TrustClock = false })
	old := f.some("a", 5)
	for i := range old {
		old[i].Received -= 100 * 3600 * 1e6
	}
	f.append(old...)
	f.maintain()
	f.check()
	f.wantKept("a", 5)
	f.reopen()
	f.maintain()
	f.wantKept("a", 5)
}

func testPrefixes(t *testing.T, open Open) {
	f := newFixture(t, open, []store.Rule{
		{Prefix: "", Limit: store.Limit{Count: 9}},
		{Prefix: "a", Limit: store.Limit{Count: 3}},
		{Prefix: "a.b", Limit: store.Limit{Bytes: 20}},
		{Prefix: "a.b.c", Limit: store.Limit{Count: store.Unlimited}},
		{Prefix: "a.b.c.d", Limit: store.Limit{Bytes: store.Unlimited}},
		{Prefix: "z", Limit: store.Limit{Count: store.Unlimited}},
		{Prefix: "y.y", Limit: store.Limit{Age: time.Minute}},
	})
	wants := []struct {
		name thing.Name
		kept uint64
	}{
		{"", 9},
		{"b", 9},
		{"a", 3},
		{"ab", 9},  // not below a
		{"a-b", 9}, // nor this
		{"a.x", 3},
		{"a.b", 2}, // 8 bytes each
		{"a.b.c", 2},
		{"a.b.c.d", 12},
		{"a.b.c.d.e", 12},
		{"z", 12},
		{"z.z", 12},
		{"y.y", 9},
		{"y", 9},
	}
	compare := func() {
		t.Helper()
		f.check()
		for _, w := range wants {
			f.wantKept(w.name, w.kept)
		}
	}
	for i := range 12 {
		var batch []thing.Update
		for _, w := range wants {
			batch = append(batch, f.update(w.name, fmt.Sprintf(`"%06d"`, i)))
		}
		f.append(batch...)
	}
	compare()
	f.maintain()
	compare()
	f.reopen()
	compare()
	f.clock.step(2 * time.Minute)
	f.maintain()
	for i := range wants {
		if wants[i].name == "y.y" {
			wants[i].kept = 1
		}
	}
	compare()
}

func testChangedLimits(t *testing.T, open Open) {
	for _, maintained := range []bool{false, true} {
		t.Run(fmt.Sprintf("maintained=%v", maintained), func(t *testing.T) {
			f := newFixture(t, open, everything(store.Limit{Count: 5}))
			with := func(l store.Limit, kept uint64) {
				t.Helper()
				if maintained {
					f.maintain()
				}
				f.reopenWith(everything(l)...)
				f.check()
				f.wantKept("a", kept)
				if maintained {
					f.maintain()
					f.check()
					f.wantKept("a", kept)
				}
			}
			f.append(f.some("a", 20)...)
			f.append(f.some("b", 2)...)
			with(store.Limit{Count: 10}, 5) // raised: nothing comes back
			f.append(f.some("a", 3)...)
			f.wantKept("a", 8)
			f.append(f.some("a", 3)...)
			f.wantKept("a", 10)
			with(store.Limit{Count: 4}, 4) // lowered: at once
			with(store.Limit{}, 4)
			f.append(f.some("a", 10)...)
			with(store.Limit{}, 14)
			each := int64(len(f.m.things["a"].newest().Data))
			with(store.Limit{Bytes: 3 * each}, 3)
			with(store.Limit{Bytes: 100 * each}, 3)
			with(store.Limit{Count: 1, Bytes: 100 * each}, 1)
			with(store.Limit{Count: 3}, 1)
			f.append(f.some("a", 2)...)
			with(store.Limit{Count: 3}, 3)
		})
	}
	t.Run("age", func(t *testing.T) {
		f := newFixture(t, open, everything(store.Limit{Age: time.Hour}))
		for range 5 { // received 40, 30, 20, 10, 0 minutes ago
			f.append(f.some("a", 1)...)
			f.clock.step(10 * time.Minute)
		}
		f.clock.step(-10 * time.Minute)
		for _, c := range []struct {
			age  time.Duration
			kept uint64
		}{{time.Hour, 5}, {25 * time.Minute, 3}, {time.Hour, 3}, {time.Minute, 1}, {0, 1}} {
			f.reopenWith(everything(store.Limit{Age: c.age})...)
			f.maintain()
			f.check()
			f.wantKept("a", c.kept)
		}
	})
}
