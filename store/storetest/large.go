package storetest

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

func testManyThings(t *testing.T, open Open) {
	const things = 20_000
	f := newFixture(t, open, everything(store.Limit{Count: 1}))
	write := func(round int) {
		batch := make([]thing.Update, things)
		for i := range batch {
			batch[i] = at(thing.Name(fmt.Sprintf("site%d.rack%d.n%d", i%7, i%113, i)), round)
		}
		f.append(batch...)
	}
	write(1)
	f.check()
	f.reopen()
	write(2)
	f.inEachPlace(func() {
		f.check()
		f.read(store.Query{Name: "site3", Tree: true, Last: 2}, 1500)
		f.read(store.Query{Name: "site3.rack3.n3"})
		f.read(store.Query{Tree: true, After: things}, 15_000, whole)
		f.asOf(store.AsOf{Tree: true, At: *micros(2)}, 9000)
		f.asOf(store.AsOf{Name: "site1", Tree: true, At: *micros(1)}, whole)
	})
}

func testLarge(t *testing.T, open Open) {
	f := newFixture(t, open, everything(store.Limit{Count: 4}))
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 6 {
		mib := at("big", i)
		mib.Data = noise(rnd, 1<<20)
		same := at("same", i)
		same.Data = append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 1<<20-2)...), '"')
		doc := at("doc", i)
		doc.Doc = noise(rnd, 100_000)
		f.append(at("small", i), mib, doc, same, at("small", i))
		if i == 3 {
			f.maintain()
		}
	}
	f.inEachPlace(func() {
		f.check()
		f.read(store.Query{Tree: true}, 1)
		f.read(store.Query{Name: "small"})
		for i := range 6 {
			f.asOf(store.AsOf{Tree: true, At: *micros(float64(i))}, 2)
		}
	})
}

// A page ends after reading so much, even when nothing matched.
func testReadBudget(t *testing.T, open Open) {
	f := newFixture(t, open, nil)
	data := append(append([]byte{'"'}, bytes.Repeat([]byte("0123456789abcdef"), 1<<15)...), '"')
	for i := range store.ReadBudget/len(data) + 20 {
		u, v := at("a", i), at("b", i) // each batch holds times to both sides of the questions
		u.Data, v.TS = data, 1e9
		u.TS, u.Received = 3e9, u.Received+1e15
		f.append(u, v)
	}
	f.inEachPlace(func() {
		f.read(store.Query{Tree: true, By: store.ByTS, Since: tsMicros(2e9), Until: tsMicros(2.1e9)})
		f.read(store.Query{Tree: true, Since: micros(1e7), Until: micros(1e8)})
		f.read(store.Query{Name: "b"})
		f.read(store.Query{Name: "a"})
		f.read(store.Query{Tree: true, Last: 3})
	})
}

// A bound of the whole takes the oldest from Things with more than an equal
// share, leaves the others alone, and never takes a newest update.
func testMaxDB(t *testing.T, open Open) {
	const maxDB = 64 << 20
	f := newFixture(t, open, nil, func(o *Options) { o.MaxDB = maxDB })
	rnd := rand.New(rand.NewPCG(3, 4))
	const size = 64 << 10
	pool := noise(rnd, 24<<20) // what is repeated lies further apart than compression looks back
	names := []thing.Name{"busy.one", "busy.two", "quiet"}
	newest := map[thing.Name]uint64{}
	seq, thingSeqs := uint64(0), map[thing.Name]uint64{}
	for round := range 32 {
		batch := []thing.Update{at("quiet", round)}
		for i := range 64 {
			u := at(names[i%2], round)
			from := int(seq+uint64(i)) * size % (len(pool) - size)
			u.Data = append(append([]byte{'"'}, pool[from+1:from+size-1]...), '"')
			batch = append(batch, u)
		}
		if _, err := f.e.Append(t.Context(), batch); err != nil {
			t.Fatalf("Append, behind %d MiB: %v", round*4, err)
		}
		for _, u := range batch {
			seq++
			thingSeqs[u.Name]++
			newest[u.Name] = seq
		}
		if round%8 == 7 {
			f.e.Maintain(t)
		}
	}
	for range 2 {
		f.e.Maintain(t)
		if size := folderSize(t, f.o.Dir); size > maxDB {
			t.Errorf("files of %d bytes under a bound of %d", size, maxDB)
		}
		first, last, count := map[thing.Name]uint64{}, map[thing.Name]uint64{}, map[thing.Name]uint64{}
		all, evicted := uint64(0), uint64(0)
		q := store.Query{Tree: true}
		for more := true; more; {
			page, err := f.e.Read(t.Context(), q, func(u *thing.Update) bool {
				if last[u.Name] == 0 {
					first[u.Name] = u.ThingSeq
				}
				count[u.Name]++
				last[u.Name] = u.Seq
				all++
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if !page.EvictedExact {
				t.Error("EvictedExact is not set for the whole tree")
			}
			evicted += page.Evicted
			q.Resume, more = page.Next, page.Next != nil
		}
		if all+evicted != seq || evicted == 0 {
			t.Errorf("%d updates and %d evicted, of %d", all, evicted, seq)
		}
		for _, name := range names {
			if last[name] != newest[name] {
				t.Errorf("the newest update of %q is %d, not %d", name, last[name], newest[name])
			}
			if first[name]+count[name] != thingSeqs[name]+1 {
				t.Errorf("%q holds %d updates from its %dth on, of %d", name, count[name], first[name], thingSeqs[name])
			}
		}
		if all*size < maxDB/8 {
			t.Errorf("only %d updates of %d bytes are left under a bound of %d", all, size, maxDB)
		}
		if first["quiet"] != 1 {
			t.Errorf("Things below their share lost %d updates", first["quiet"]-1)
		}
		if s := f.e.State(); s.Head != seq || s.Updates != all || s.Things != len(names) {
			t.Errorf("State is %+v, want head %d, %d updates, %d Things", s, seq, all, len(names))
		}
		f.e = f.e.Reopen(t, f.o)
	}
}

// noise makes a JSON string of n bytes that can hardly be compressed.
func noise(rnd *rand.Rand, n int) []byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	b := make([]byte, 0, n+10)
	for b = append(b, '"'); len(b) < n; {
		for r, i := rnd.Uint64(), 0; i < 10; i++ {
			b = append(b, digits[r&63])
			r >>= 6
		}
	}
	b[n-1] = '"'
	return b[:n]
}

// folderSize adds up the files of a history.
func folderSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
