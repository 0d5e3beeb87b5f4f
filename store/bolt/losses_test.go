package bolt

import (
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"

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
