package bolt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// turned is what a history ought to hold: of each Thing the newest that its
// limits leave.
type turned struct {
	limits map[thing.Name]store.Limit
	rings  map[thing.Name]*turnedRing
	head   uint64
	// forgotten are those that were, with what was gone of them before.
	forgotten map[thing.Name][]uint64
}

type turnedRing struct {
	kept  []thing.Update
	bytes int64
	gone  []uint64 // seqs
}

func (m *turned) append(batch []thing.Update) {
	for _, u := range batch {
		r := m.rings[u.Name]
		if r == nil {
			r = &turnedRing{}
			m.rings[u.Name] = r
		}
		m.head++
		u.Seq, u.ThingSeq = m.head, uint64(len(r.gone)+len(r.kept)+1)
		r.kept = append(r.kept, u)
		r.bytes += int64(u.Size())
		l := m.limits[u.Name]
		for len(r.kept) > 1 && ((l.Count > 0 && int64(len(r.kept)) > l.Count) || (l.Bytes > 0 && r.bytes > l.Bytes)) {
			r.bytes -= int64(r.kept[0].Size())
			r.gone = append(r.gone, r.kept[0].Seq)
			r.kept = r.kept[1:]
		}
	}
}

// forget takes a Thing, and with tree all below it, out.
func (m *turned) forget(name thing.Name, tree bool) (things int, updates uint64) {
	for n, r := range m.rings {
		if n != name && (!tree || !n.Under(name)) {
			continue
		}
		things++
		updates += uint64(len(r.kept))
		seqs := append(m.forgotten[n], r.gone...)
		for i := range r.kept {
			seqs = append(seqs, r.kept[i].Seq)
		}
		m.forgotten[n] = seqs
		delete(m.rings, n)
	}
	return things, updates
}

// gone counts what is no longer held of a Thing, and with tree all below it,
// behind a seq.
func (m *turned) gone(name thing.Name, tree bool, after uint64) (n uint64) {
	count := func(of thing.Name, seqs []uint64) {
		if of != name && (!tree || !of.Under(name)) {
			return
		}
		for _, seq := range seqs {
			if seq > after {
				n++
			}
		}
	}
	for of, r := range m.rings {
		count(of, r.gone)
	}
	for of, seqs := range m.forgotten {
		count(of, seqs)
	}
	return n
}

// wantOf compares what the history answers about some Things.
func (m *turned) wantOf(t *testing.T, db *DB, when string, name thing.Name, tree bool, after uint64) {
	t.Helper()
	want := 0
	for of, r := range m.rings {
		if of == name || tree && of.Under(name) {
			for i := range r.kept {
				if r.kept[i].Seq > after {
					want++
				}
			}
		}
	}
	all, page := holds(t, db, store.Query{Name: name, Tree: tree, After: after})
	gone := m.gone(name, tree, after)
	if len(all) != want || page.Evicted < gone || (page.EvictedExact && page.Evicted != gone) {
		t.Errorf("%s: of %q (tree %v) behind seq %d there are %d updates, %d evicted (exact %v), want %d, %d",
			when, name, tree, after, len(all), page.Evicted, page.EvictedExact, want, gone)
	}
}

// want compares all that the history holds with the model.
func (m *turned) want(t *testing.T, db *DB, when string) {
	t.Helper()
	held := make(map[uint64]*thing.Update)
	gone := make(map[uint64]struct{})
	for _, r := range m.rings {
		for i := range r.kept {
			held[r.kept[i].Seq] = &r.kept[i]
		}
		for _, seq := range r.gone {
			gone[seq] = struct{}{}
		}
	}
	for _, seqs := range m.forgotten {
		for _, seq := range seqs {
			gone[seq] = struct{}{}
		}
	}
	s := db.State()
	if s.Head != m.head || s.Updates != uint64(len(held)) || s.Things != len(m.rings) {
		t.Errorf("%s: %d updates of %d Things up to %d, want %d of %d up to %d",
			when, s.Updates, s.Things, s.Head, len(held), len(m.rings), m.head)
	}
	for _, after := range []uint64{0, m.head / 2, m.head - min(m.head, 40_000)} {
		want, wantGone := 0, uint64(0)
		for seq := range held {
			if seq > after {
				want++
			}
		}
		for seq := range gone {
			if seq > after {
				wantGone++
			}
		}
		q := store.Query{Tree: true, After: after}
		got, wrong := 0, 0
		last := after
		var evicted uint64
		for first := true; ; first = false {
			page, err := db.Read(t.Context(), q, func(u *thing.Update) bool {
				got++
				w := held[u.Seq]
				if w == nil || u.Seq <= last || w.Name != u.Name || w.ThingSeq != u.ThingSeq || string(w.Data) != string(u.Data) ||
					string(w.Doc) != string(u.Doc) || w.TS != u.TS || w.Received != u.Received {
					wrong++
				}
				last = u.Seq
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if first {
				evicted = page.Evicted
			}
			if page.Next == nil {
				break
			}
			q.Resume = page.Next
		}
		if got != want || wrong > 0 {
			t.Errorf("%s: behind seq %d %d updates, %d of them wrong, want %d", when, after, got, wrong, want)
		}
		if evicted < wantGone {
			t.Errorf("%s: behind seq %d %d are said to be evicted, %d are", when, after, evicted, wantGone)
		}
	}
	wantIndexed(t, db)
	for name := range m.limits {
		if rand.IntN(8) == 0 {
			m.wantOf(t, db, when, name, false, rand.Uint64N(m.head+1)*uint64(rand.IntN(2)))
		}
	}
	for _, prefix := range []thing.Name{"one", "few", "some", "many", "bytes", "both", "all", ""} {
		m.wantOf(t, db, when, prefix, true, rand.Uint64N(m.head+1)*uint64(rand.IntN(2)))
	}
}

// Rings of very different sizes turn, Things are forgotten, and the process is
// killed again and again: each life holds exactly what the one before held.
func TestTurnAndKill(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	prefixes := map[thing.Name]store.Limit{
		"one": {Count: 1}, "few": {Count: 7}, "some": {Count: 130}, "many": {Count: 900},
		"bytes": {Bytes: 5000}, "both": {Count: 900, Bytes: 40_000}, "all": {Count: store.Unlimited},
	}
	var rules []store.Rule
	var names []thing.Name
	m := &turned{limits: make(map[thing.Name]store.Limit), rings: make(map[thing.Name]*turnedRing), forgotten: make(map[thing.Name][]uint64)}
	for prefix, l := range prefixes {
		rules = append(rules, store.Rule{Prefix: prefix, Limit: l})
		things := 40
		if prefix == "all" {
			things = 2
		}
		for i := range things {
			name := thing.Name(fmt.Sprintf("%s.t%d", prefix, i))
			names, m.limits[name] = append(names, name), l
		}
	}
	path := filepath.Join(t.TempDir(), "history.db")
	var db *DB
	open := func() {
		db = openTest(t, path, func(o *Options) { o.Rules, o.MaxDB = rules, 512<<20 })
	}
	open()
	n := 0
	for life := range 4 {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			tick := time.NewTicker(150 * time.Millisecond)
			defer tick.Stop()
			for faults := 0; life%2 == 1 && faults < 10; faults++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				// The file is taken away between two transactions, whosever
				// they are; closing it within one would be a race.
				db.writing.Lock()
				if db.file != nil {
					_ = db.file.os.Close()
				}
				db.writing.Unlock()
			}
		}()
		for end := n + 25_000 + rnd.IntN(20_000); n < end && !t.Failed(); {
			batch := make([]thing.Update, 1+rnd.IntN(700))
			for i := range batch {
				n++
				name := names[rnd.IntN(len(names))]
				if rnd.IntN(3) > 0 {
					name = names[min(rnd.IntN(len(names)), rnd.IntN(len(names)), rnd.IntN(len(names)))]
				}
				u := update(string(name), n)
				switch rnd.IntN(30) {
				case 0:
					u.Doc = nil
				case 1:
					u.Doc = []byte(`"` + strings.Repeat("x", 600) + strconv.Itoa(n) + `"`)
				case 2:
					u.Data = []byte(`"` + strings.Repeat(strconv.Itoa(n), rnd.IntN(200)) + `"`)
				}
				batch[i] = u
			}
			m.append(batch)
			if _, err := db.Append(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(12) > 0 {
				continue
			}
			name, tree := names[rnd.IntN(len(names))], false
			if rnd.IntN(6) == 0 {
				name, tree = name[:strings.IndexByte(string(name), '.')], true
			}
			things, updates := m.forget(name, tree)
			if f := mustForget(t, db, name, tree); f.Things != things || f.Updates != updates {
				t.Errorf("of %q (tree %v) %d updates of %d Things were forgotten, want %d of %d", name, tree, f.Updates, f.Things, updates, things)
			}
		}
		if rnd.IntN(2) == 0 {
			if err := db.Maintain(); err != nil && life%2 == 0 {
				t.Error(err)
			}
		}
		close(stop)
		<-stopped
		// The file as a kill leaves it.
		db.writing.Lock()
		killed := crashedHeld(t, db)
		db.writing.Unlock()
		if life%2 == 0 {
			m.want(t, db, fmt.Sprintf("life %d", life))
		}
		if err := db.Close(); err != nil && life%2 == 0 {
			t.Error(err)
		} else if errors.Is(err, store.ErrClosed) {
			t.Error(err)
		}
		path = killed
		open()
		m.want(t, db, fmt.Sprintf("killed after life %d", life))
		if t.Failed() {
			break
		}
	}
	mustClose(t, db)
	open()
	m.want(t, db, "closed and opened")
	if err := db.Maintain(); err != nil {
		t.Error(err)
	}
	m.want(t, db, "after maintenance")
	mustClose(t, db)
}
