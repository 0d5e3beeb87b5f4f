package bolt

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"tbhist/store"
	"tbhist/thing"
)

// What is said of the updates that go with dead segments is the same as if
// every one of them had been looked at, whatever their times.
func TestLossesOfDeadSegments(t *testing.T) {
	const things, ring, batch = 50, 3, 1000
	rnd := rand.New(rand.NewPCG(3, 4))
	for name, times := range map[string]func(i int) (ts float64, received thing.Micros){
		"forward":  func(i int) (float64, thing.Micros) { return 1e9 + float64(i), thing.Micros(1e15) + thing.Micros(i) },
		"backward": func(i int) (float64, thing.Micros) { return 1e9 - float64(i), thing.Micros(1e15) - thing.Micros(i) },
		"jumping": func(int) (float64, thing.Micros) {
			return 1e9 + rnd.Float64(), thing.Micros(1e15) + thing.Micros(rnd.IntN(1e6))
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) {
				o.Rules = []store.Rule{{Limit: store.Limit{Count: ring}}}
			})
			defer func() { _ = db.Close() }()
			db.maintaining.Lock()
			defer db.maintaining.Unlock()
			w := newWorkload(things, batch)
			for range 3 {
				for range 4 {
					us := w.next()
					for i := range us {
						us[i].TS, us[i].Received = times(w.n + i)
					}
					if _, err := db.Append(t.Context(), us); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := db.seal(); err != nil {
					t.Fatal(err)
				}
			}
			segs := db.segments()[:2]
			var all losses
			err := db.view(func(s *snapshot) error {
				for _, seg := range segs {
					for _, at := range s.blocksOf(seg, nil) {
						for _, e := range s.blockAt(at) {
							if e.thingSeq >= s.rings[e.id].fk.Load() {
								t.Fatalf("update %d is kept", e.seq)
							}
							all.add(&e)
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			gone, err := db.lossesOf(segs)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := gone.byThing(), all.byThing(); len(want) != things || !maps.Equal(got, want) {
				t.Errorf("%v\nwant\n%v", got, want)
			}
		})
	}
}

func (l *losses) byThing() map[uint32]lost {
	m := make(map[uint32]lost)
	for i, id := range l.ids {
		m[id] = l.lost[i]
	}
	return m
}

// What goes between a checkpoint and the next one is known to be gone after a
// crash between the two, though nothing came in since; and a checkpoint says it.
func TestCrashBeforeLossesAreWritten(t *testing.T) {
	limited := func(o *Options) { o.Rules = []store.Rule{{Limit: store.Limit{Count: 60}}} }
	for _, how := range []string{"drop", "rewrite", "seal"} {
		t.Run(how, func(t *testing.T) {
			db := openTest(t, filepath.Join(t.TempDir(), "history.db"), limited)
			defer mustClose(t, db)
			db.maintaining.Lock()
			defer db.maintaining.Unlock()
			step := func() {
				if _, err := db.seal(); err != nil {
					t.Fatal(err)
				}
			}
			appendMany(t, db, 0, 50)
			if how != "seal" {
				step()
			}
			appendMany(t, db, 50, 110)
			if err := db.checkpoint(); err != nil {
				t.Fatal(err)
			}
			noted := func(path string) (marked bool) {
				edit(t, path, func(tx *bbolt.Tx) error {
					marked = tx.Bucket(bucketMeta).Get(keyLost) != nil
					return nil
				})
				return marked
			}
			if noted(crashedHeld(t, db)) {
				t.Error("the file says that something is gone that its checkpoint does not know")
			}
			segs := db.segments()
			switch how {
			case "drop":
				if err := db.drop(segs[:1]); err != nil {
					t.Fatal(err)
				}
			case "rewrite":
				if err := db.rewrite(segs[:1]); err != nil {
					t.Fatal(err)
				}
			case "seal":
				step()
			}
			path := crashedHeld(t, db)
			again := openTest(t, path, limited)
			defer mustClose(t, again)
			ro, err := OpenReadOnly(crashedHeld(t, db), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ro.Close() }()
			for i, r := range []reads{db, again, ro} {
				page, err := r.Read(t.Context(), store.Query{Name: "a", After: 10}, func(*thing.Update) bool { return true })
				if err != nil || page.Count != 60 || page.Evicted < 160-60-5 {
					t.Errorf("%d: %d updates, %d are evicted (exact %v), %v; want %d", i, page.Count, page.Evicted, page.EvictedExact, err, 160-60-5)
				}
			}
			upkeep(t, again, again.round) // nothing came in
			if noted(crashed(t, again)) {
				t.Error("there is no checkpoint with what was lost")
			}
		})
	}
}
