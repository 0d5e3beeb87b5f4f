package bolt

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// workload makes batches like those of many sensors: two noisy floats, a
// URL, changing ts.
type workload struct {
	names []thing.Name
	docs  [][]byte
	rnd   *rand.Rand
	n     int
	batch []thing.Update
}

func newWorkload(things, batch int) *workload {
	w := &workload{rnd: rand.New(rand.NewPCG(1, 2)), batch: make([]thing.Update, batch)}
	for i := range things {
		w.names = append(w.names, thing.Name(fmt.Sprintf("site.room%d.sensor%d", i%97, i)))
		w.docs = append(w.docs, fmt.Appendf(nil, `"http://wiki.example.org/sensors/%d"`, i%50))
	}
	return w
}

func (w *workload) next() []thing.Update {
	for i := range w.batch {
		w.n++
		k := w.rnd.IntN(len(w.names))
		w.batch[i] = thing.Update{
			Name: w.names[k], Doc: w.docs[k],
			Data: fmt.Appendf(w.batch[i].Data[:0], `{"luminance":%.14f,"ratio_busy":%.17f}`, 100*w.rnd.Float64(), w.rnd.Float64()),
			TS:   1.795e9 + float64(w.n)/1e5, Received: thing.Micros(1795e12) + thing.Micros(w.n)*10,
		}
	}
	return w.batch
}

// BenchmarkAppend appends as fast as can be while the background work keeps
// up, to rings that only fill and to rings that turn. Beside the rate it tells
// the longest Append and the CPU time of the whole process.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		things int
		ring   int64
	}{{1000, 0}, {1000, 200}, {100000, 0}, {100000, 4}} {
		name := "filling"
		if c.ring > 0 {
			name = "turning"
		}
		b.Run(fmt.Sprintf("things=%d/%s", c.things, name), func(b *testing.B) {
			db, err := Open(filepath.Join(b.TempDir(), "h.db"), Options{Rules: []store.Rule{{Limit: store.Limit{Count: c.ring}}}})
			if err != nil {
				b.Fatal(err)
			}
			const batch, batches = 2000, 500
			w := newWorkload(c.things, batch*batches)
			all := w.next()
			n := 0
			appendNext := func() time.Duration {
				began := time.Now()
				at := n % batches * batch
				if _, err := db.Append(b.Context(), all[at:at+batch]); err != nil {
					b.Fatal(err)
				}
				n++
				return time.Since(began)
			}
			for c.ring > 0 && n*batch < c.things*int(c.ring)*3/2 {
				appendNext()
			}
			var longest time.Duration
			was, cpu := n, cpuTime()
			for b.Loop() {
				longest = max(longest, appendNext())
			}
			updates := float64((n - was) * batch)
			b.ReportMetric(updates/b.Elapsed().Seconds(), "updates/s")
			b.ReportMetric(float64(cpuTime()-cpu)/1e3/updates, "CPU-µs/update")
			b.ReportMetric(float64(longest)/1e6, "longest-ms")
			st := db.Stats()
			if st.SegmentBytes > 0 && c.ring == 0 {
				logged := db.logged.count
				b.ReportMetric(float64(st.SegmentBytes)/float64(n*batch-logged), "B/update")
			}
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	db, err := Open(filepath.Join(b.TempDir(), "h.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	const total = 1_000_000
	w := newWorkload(10000, 2000)
	for w.n < total {
		if _, err := db.Append(b.Context(), w.next()); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Maintain(); err != nil {
		b.Fatal(err)
	}
	st := db.Stats()
	b.Logf("%.1f bytes an update in segments, file %d MiB, %d free pages", float64(st.SegmentBytes)/total, st.FileBytes>>20, st.FreePages)
	since := thing.Micros(1795e12) + total*99/100*10
	for name, q := range map[string]store.Query{
		"all": {Tree: true}, "one-thing": {Name: "site.room7.sensor7"}, "newest-percent": {Tree: true, Since: &since},
	} {
		b.Run(name, func(b *testing.B) {
			var n uint64
			for b.Loop() {
				page, err := db.Read(b.Context(), q, func(*thing.Update) bool { n++; return true })
				if err != nil {
					b.Fatal(err)
				}
				for page.Next != nil {
					q := q
					q.Resume = page.Next
					if page, err = db.Read(b.Context(), q, func(*thing.Update) bool { n++; return true }); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "updates/s")
		})
	}
}
