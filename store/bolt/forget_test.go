package bolt

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"tbhist/metrics"
	"tbhist/store"
	"tbhist/thing"
)

func mustAppend(t *testing.T, db *DB, us ...thing.Update) []thing.Update {
	t.Helper()
	got, err := db.Append(t.Context(), us)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func mustForget(t *testing.T, db *DB, name thing.Name, tree bool) store.Forgotten {
	t.Helper()
	f, err := db.Forget(t.Context(), name, tree, false)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// holds gives what a question brings, as "name/thing_seq", and the page.
func holds(t *testing.T, db *DB, q store.Query) (all []string, last store.Page) {
	t.Helper()
	for {
		page, err := db.Read(t.Context(), q, func(u *thing.Update) bool {
			all = append(all, fmt.Sprintf("%s/%d", u.Name, u.ThingSeq))
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		page.Evicted += last.Evicted
		page.EvictedExact = page.EvictedExact && (last.EvictedExact || last.Count == 0)
		last = page
		if q.Resume = page.Next; q.Resume == nil {
			return all, last
		}
	}
}

// evictedFor gives how many updates are counted as evicted for a cause.
func evictedFor(t *testing.T, reg *prometheus.Registry, cause string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "tbhist_updates_evicted_total" && m.GetLabel()[0].GetValue() == cause {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// slotted is an update as the input gives it.
func slotted(name string, n int, slot uint32) thing.Update {
	u := update(name, n)
	u.Slot = slot
	return u
}

// What is forgotten is in no answer, nor after a stop or a crash, however the
// file was tidied up before; and the name begins anew.
func TestForget(t *testing.T) {
	reg := prometheus.NewRegistry()
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) { o.Metrics = metrics.NewStore(reg) })
	for i := range 3 {
		mustAppend(t, db, slotted("b", i, 1), slotted("b.c", i, 2), slotted("b-x", i, 3), slotted("b.c.d", i, 4), slotted("a", i, 5))
	}
	dry, err := db.Forget(t.Context(), "b", true, true)
	if err != nil || dry.Things != 3 || dry.Updates != 9 || !slices.Equal(dry.Names, []thing.Name{"b", "b.c", "b.c.d"}) {
		t.Errorf("a dry run says %+v, %v", dry, err)
	}
	if all, _ := holds(t, db, store.Query{Tree: true}); len(all) != 15 {
		t.Errorf("after a dry run there is %v", all)
	}
	if none := mustForget(t, db, "b.c.x", true); none.Things != 0 || none.Updates != 0 {
		t.Errorf("of nothing %+v is forgotten", none)
	}
	if one := mustForget(t, db, "b.c", false); one.Things != 1 || one.Updates != 3 {
		t.Errorf("of one Thing %+v is forgotten", one)
	}
	if rest := mustForget(t, db, "b", true); rest.Things != 2 || rest.Updates != 6 {
		t.Errorf("of a tree %+v is forgotten", rest)
	}
	check := func(when string, db *DB, anew uint64) {
		t.Helper()
		var want []string
		for n := range 3 {
			want = append(want, fmt.Sprintf("b-x/%d", n+1), fmt.Sprintf("a/%d", n+1))
		}
		for n := range anew {
			want = append(want, fmt.Sprintf("b.c/%d", n+1))
		}
		all, page := holds(t, db, store.Query{Tree: true})
		if !slices.Equal(all, want) || page.Evicted != 9 || !page.EvictedExact {
			t.Errorf("%s: history holds %v, %d evicted (exact %v)", when, all, page.Evicted, page.EvictedExact)
		}
		for _, c := range []struct {
			q       store.Query
			evicted uint64
			exact   bool
		}{
			{store.Query{Name: "b", Tree: true}, 9, true},
			{store.Query{Name: "b.c"}, 3, true},
			{store.Query{Name: "b.c", Last: 2}, 0, true},
			{store.Query{Tree: true, Last: 2}, 0, true},
			{store.Query{Name: "b.c.d", After: 13}, 1, false},
			{store.Query{Name: "b.c", After: 14}, 0, true},
			{store.Query{Name: "a"}, 0, true},
		} {
			_, page := holds(t, db, c.q)
			if page.Evicted < c.evicted || (c.exact && (page.Evicted != c.evicted || !page.EvictedExact)) {
				t.Errorf("%s: of %+v %d are evicted (exact %v), want %d (%v)", when, c.q, page.Evicted, page.EvictedExact, c.evicted, c.exact)
			}
		}
		things := 2 + int(min(anew, 1))
		if s := db.State(); s.Things != things || s.Updates != 6+anew || s.Head != 15+anew {
			t.Errorf("%s: %+v", when, s)
		}
		latest := 0
		if err := db.Latest(func(u *thing.Update, _ []byte) bool {
			latest++
			if u.Name.Under("b") && (u.Name != "b.c" || u.ThingSeq != anew) {
				t.Errorf("%s: the newest of %q is %d", when, u.Name, u.ThingSeq)
			}
			return true
		}); err != nil || latest != things {
			t.Errorf("%s: %d Things, %v", when, latest, err)
		}
		if _, err := db.AsOf(t.Context(), store.AsOf{Tree: true, At: update("b", 2).Received}, func(e *store.PastEntry) bool {
			if e.Update.Name.Under("b") {
				t.Errorf("%s: %q is in a past directory: %+v", when, e.Update.Name, e)
			}
			return true
		}); err != nil {
			t.Error(err)
		}
		if err := db.Kept(t.Context(), []thing.Name{"b", "b.c"}, func(i int, n uint64, _ thing.Micros) {
			if n != []uint64{0, anew}[i] {
				t.Errorf("%s: %d are kept of the %d.", when, n, i)
			}
		}); err != nil {
			t.Error(err)
		}
	}
	check("at once", db, 0)
	if n := evictedFor(t, reg, "forget"); n != 9 {
		t.Errorf("the metric says %v", n)
	}
	again := openTest(t, crashed(t, db))
	check("after a crash", again, 0)
	mustClose(t, again)
	ids := len(db.rings)
	for i := range 4 {
		if got := mustAppend(t, db, slotted("b.c", 100+i, 2)); got[0].ThingSeq != uint64(i+1) {
			t.Errorf("anew it has thing_seq %d, want %d", got[0].ThingSeq, i+1)
		}
		check("anew", db, uint64(i+1))
		again := openTest(t, crashed(t, db))
		check("anew, after a crash", again, uint64(i+1))
		mustClose(t, again)
		if i == 1 {
			if err := db.Maintain(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r := db.names["b.c"]; int(r.id) != ids || len(db.rings) != ids+1 {
		t.Errorf("the new Thing has id %d of %d, want %d", r.id, len(db.rings), ids)
	}
	mustClose(t, db)
	db = openTest(t, db.path)
	check("opened again", db, 4)
	mustClose(t, db)
	r, err := OpenReadOnly(db.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	check("read-only", r.db, 4)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// Neither a checkpoint from before nor the lack of one brings anything back,
// whatever else of the Thing is damaged.
func TestForgetOldCheckpoint(t *testing.T) {
	limited := func(o *Options) {
		o.Rules = []store.Rule{{Limit: store.Limit{Count: 4, Bytes: 1 << 20}}}
	}
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), limited)
	defer func() { mustClose(t, db) }()
	for i := range 9 {
		mustAppend(t, db, update("a", i), update("b.c", i))
	}
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, db, update("b.c", 10))
	mustForget(t, db, "b.c", false)
	mustAppend(t, db, update("b.c", 11), update("a", 11))
	damage := map[string]func(*bbolt.Tx) error{
		"old checkpoint":      func(*bbolt.Tx) error { return nil },
		"damaged checkpoint":  spoil(bucketCheckpoint, subKey(18, 0)),
		"damaged part":        spoil(bucketCheckpoint, subKey(18, 1)),
		"damaged key":         func(tx *bbolt.Tx) error { return rename(tx.Bucket(bucketForgotten), idKey(1), idKey(0)) },
		"damaged value":       spoilValue(bucketForgotten, idKey(1)),
		"its name is gone":    func(tx *bbolt.Tx) error { return tx.Bucket(bucketThings).Delete(idKey(1)) },
		"its name is damaged": spoilValue(bucketThings, idKey(1)),
		"ids are damaged":     spoilValue(bucketMeta, keyIDs),
		"no name, ids and checks": func(tx *bbolt.Tx) error {
			return errors.Join(tx.Bucket(bucketThings).Delete(idKey(1)), spoilValue(bucketMeta, keyIDs)(tx))
		},
	}
	for what, fn := range damage {
		path := crashed(t, db)
		edit(t, path, fn)
		again := openTest(t, path, limited)
		want := []string{"a/7", "a/8", "a/9", "b.c/1", "a/10"}
		for range 2 {
			if all, page := holds(t, again, store.Query{Tree: true}); !slices.Equal(all, want) || page.Evicted != 21-uint64(len(want)) {
				t.Errorf("%s: history holds %v, %d evicted", what, all, page.Evicted)
			}
			if s := again.State(); s.Things != 2 || s.Updates != 5 {
				t.Errorf("%s: %+v", what, s)
			}
			if err := again.Maintain(); err != nil {
				t.Error(err)
			}
		}
		if got := mustAppend(t, again, update("b.c", 12), update("new", 1)); got[0].ThingSeq != 2 || again.names["new"].id != 3 {
			t.Errorf("%s: then %+v, id %d", what, got, again.names["new"].id)
		}
		mustClose(t, again)
	}
}

func spoilValue(bucket, key []byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		v := slices.Clone(b.Get(key))
		v[len(v)-1] ^= 1
		return b.Put(key, v)
	}
}

func rename(b *bbolt.Bucket, from, to []byte) error {
	v := slices.Clone(b.Get(from))
	return errors.Join(b.Delete(from), b.Put(to, v))
}

// What age had evicted of a forgotten Thing is not written down any more, and
// what was, brings nothing back.
func TestForgetAged(t *testing.T) {
	now := time.UnixMicro(int64(recent("", 5000).Received))
	aged := func(o *Options) {
		o.Rules = []store.Rule{{Limit: store.Limit{Age: 3 * time.Second}}}
		o.TrustClock, o.lazyAge = true, true
		o.Now = func() time.Time { return now }
	}
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), aged)
	for _, n := range []int{1000, 1500, 2500, 4000} {
		mustAppend(t, db, recent("a", n), recent("b", n))
	}
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	if f := mustForget(t, db, "b", false); f.Updates != 2 {
		t.Errorf("forgotten is %+v", f)
	}
	now = now.Add(time.Second) // takes one more of a
	want := []string{"a/4"}
	for life := range 3 {
		if err := db.Maintain(); err != nil {
			t.Fatal(err)
		}
		all, page := holds(t, db, store.Query{Tree: true})
		if !slices.Equal(all, want) || page.Evicted != 7 {
			t.Errorf("life %d: history holds %v, %d evicted", life, all, page.Evicted)
		}
		if _, page := holds(t, db, store.Query{Name: "b"}); page.Evicted != 4 || !page.EvictedExact {
			t.Errorf("life %d: of b %d are evicted (exact %v)", life, page.Evicted, page.EvictedExact)
		}
		if n := db.evicted.Load(); n != 7 {
			t.Errorf("life %d: %d are evicted in all", life, n)
		}
		path := crashed(t, db)
		mustClose(t, db)
		db = openTest(t, path, aged)
	}
	mustClose(t, db)
}

// Of many forgotten Things the oldest leave their ids alone.
func TestForgetMany(t *testing.T) {
	few := func(o *Options) { o.mostBuried = 3 }
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), few)
	for i := range 10 {
		mustAppend(t, db, update(fmt.Sprintf("t%d", i), 1), update("kept", i))
	}
	check := func(when string, db *DB, forgotten int) {
		t.Helper()
		all, page := holds(t, db, store.Query{Tree: true})
		if len(all) != 20-forgotten || page.Evicted != uint64(forgotten) || !page.EvictedExact {
			t.Errorf("%s: %d are there, %d evicted", when, len(all), page.Evicted)
		}
		for i := range forgotten {
			want := uint64(0)
			if i >= forgotten-3 {
				want = 1
			}
			if _, page := holds(t, db, store.Query{Name: thing.Name(fmt.Sprintf("t%d", i))}); page.Evicted != want {
				t.Errorf("%s: of the %d. %d are evicted, want %d", when, i, page.Evicted, want)
			}
		}
		if n := len(db.buried); n != min(forgotten, 3) {
			t.Errorf("%s: of %d it is known what they had", when, n)
		}
	}
	names := func() (n int) {
		if err := db.file.view(func(tx *bbolt.Tx) error {
			n = tx.Bucket(bucketThings).Stats().KeyN
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := range 7 {
		mustForget(t, db, thing.Name(fmt.Sprintf("t%d", i)), false)
		check("at once", db, i+1)
	}
	if n := names(); n != 11-4 {
		t.Errorf("the file has %d names", n)
	}
	for range 2 {
		path := crashed(t, db)
		mustClose(t, db)
		db = openTest(t, path, few)
		check("after a crash", db, 7)
		if err := db.Maintain(); err != nil {
			t.Fatal(err)
		}
	}
	// More at once than are remembered.
	mustAppend(t, db, update("tree.a", 1), update("tree.b", 1), update("tree.c", 1), update("tree.d", 1), update("tree.e", 1))
	mustForget(t, db, "tree", true)
	if n := names(); n != 11-7+3 || len(db.buried) != 3 || db.State().Things != 4 {
		t.Errorf("the file has %d names, %d are known, of %d Things", n, len(db.buried), db.State().Things)
	}
	mustClose(t, db)
	db = openTest(t, db.path, few)
	if s := db.State(); s.Things != 4 || s.Updates != 13 {
		t.Errorf("opened again: %+v", s)
	}
	mustClose(t, db)
}
