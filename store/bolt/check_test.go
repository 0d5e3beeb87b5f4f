package bolt

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// wantSound checks a file in which nothing is wrong.
func wantSound(t *testing.T, path, when string) *CheckReport {
	t.Helper()
	before := sum(t, path)
	report, err := Check(t.Context(), path, nil)
	if err != nil {
		t.Fatalf("%s: %+v", when, err)
	}
	for _, p := range report.Problems {
		t.Errorf("%s: %s (seq %d): %s", when, p.Where, p.Seq, p.What)
	}
	if after := sum(t, path); after != before {
		t.Errorf("%s: the file was changed", when)
	}
	return report
}

// Nothing is wrong with a file as a crash leaves it at any time, whatever the
// limits, nor with one that was closed.
func TestCheckSound(t *testing.T) {
	for name, rules := range map[string][]store.Rule{
		"everything": nil,
		"count":      {{Limit: store.Limit{Count: 7}}},
		"bytes":      {{Limit: store.Limit{Bytes: 700}}, {Prefix: "a", Limit: store.Limit{Count: 9, Bytes: 4000}}},
		"age":        {{Limit: store.Limit{Age: 2 * time.Second, Count: 900}}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.db")
			var now atomic.Int64
			now.Store(1.8e15)
			db := openTest(t, path, func(o *Options) {
				o.Rules, o.TrustClock, o.lazyAge, o.Now = rules, true, true, func() time.Time { return time.UnixMicro(now.Load()) }
			})
			w := newWorkload(40, 300)
			for round := range 8 {
				for range 4 {
					us := w.next()
					for i := range us {
						us[i].Received = thing.Micros(now.Add(1000))
					}
					if _, err := db.Append(t.Context(), us); err != nil {
						t.Fatal(err)
					}
				}
				copied := func(when string) {
					t.Helper()
					db.maintaining.Lock()
					defer db.maintaining.Unlock()
					wantSound(t, crashedHeld(t, db), when)
				}
				copied("after Append")
				if round%2 == 0 {
					sealOne(t, db)
					copied("after a segment")
				}
				if round%3 == 2 {
					if err := db.Maintain(); err != nil {
						t.Fatal(err)
					}
					copied("after maintenance")
				}
			}
			s := db.State()
			mustClose(t, db)
			report := wantSound(t, path, "closed")
			if report.Things != s.Things || report.Updates != s.Updates || report.Segments == 0 || report.Records == 0 {
				t.Errorf("%+v of %+v", report, s)
			}
		})
	}
}

// The recorded file of format 1 is sound.
func TestCheckFormat1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v1.db")
	unpack(t, v1File, path)
	if r := wantSound(t, path, "v1"); r.Things != 4 || r.Segments != 1 {
		t.Errorf("%+v", r)
	}
}

// A file in use is not checked.
func TestCheckLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	defer mustClose(t, db)
	if _, err := Check(t.Context(), path, nil); !errors.Is(err, store.ErrLocked) {
		t.Errorf("%v", err)
	}
}
