package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// held is all that a history holds, in words: every update, the newest of each
// Thing with its documentation URL, and what it says of itself.
func held(t *testing.T, r reads) []string {
	t.Helper()
	s := r.State()
	s.Epoch, s.Oldest = "", 0 // an epoch of its own, and to the precision of a segment
	out := []string{fmt.Sprintf("%+v", s)}
	var newest []string
	if err := r.Latest(func(u *thing.Update, doc []byte) bool {
		newest = append(newest, fmt.Sprintf("newest %q %s %s %d %d %d %v %s", u.Name, u.Data, u.Doc, u.Seq, u.ThingSeq, u.Received, u.TS, doc))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(newest)
	out = append(out, newest...)
	q := store.Query{Tree: true}
	for {
		page, err := r.Read(t.Context(), q, func(u *thing.Update) bool {
			out = append(out, fmt.Sprintf("%q %s %s %d %d %d %v", u.Name, u.Data, u.Doc, u.Seq, u.ThingSeq, u.Received, u.TS))
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if q.Resume = page.Next; q.Resume == nil {
			return out
		}
	}
}

// heldBy is what the file at path holds, in which nothing may be wrong.
func heldBy(t *testing.T, path string) []string {
	t.Helper()
	switch report, err := Check(t.Context(), path, nil); {
	case err != nil:
		t.Error(err)
	case len(report.Problems) > 0:
		t.Errorf("wrong in %s: %+v", path, report.Problems[:min(5, len(report.Problems))])
	}
	r, err := OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	wantIndexed(t, r.db)
	return held(t, r)
}

func wantHeld(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("%s: lacks %s and %d more", what, want[i], len(want)-i-1)
		case i >= len(want):
			t.Fatalf("%s: has %s and %d more, which were not there", what, got[i], len(got)-i-1)
		case got[i] != want[i]:
			t.Fatalf("%s: has\n%s\nwhere there was\n%s", what, got[i], want[i])
		}
	}
}

// backupOf takes a backup of a history, and gives the stream.
func backupOf(t *testing.T, db *DB, during func(done, total int64)) []byte {
	t.Helper()
	var out bytes.Buffer
	info, err := db.Backup(t.Context(), &out, during)
	if err != nil {
		t.Fatal(err)
	}
	if info.Bytes != int64(out.Len()) || info.Epoch != db.epoch {
		t.Errorf("%+v of %d bytes of epoch %s", info, out.Len(), db.epoch)
	}
	return out.Bytes()
}

// restored makes the file of a stream.
func restored(t *testing.T, stream []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "restored.db")
	if _, err := WriteBackup(t.Context(), path, bytes.NewReader(stream), nil); err != nil {
		t.Fatal(err)
	}
	wantNone(t, path+backupSuffix)
	return path
}

func wantNone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there: %v", path, err)
	}
}

// sealAll makes segments of the log.
func sealAll(t *testing.T, db *DB) {
	t.Helper()
	db.maintaining.Lock()
	defer db.maintaining.Unlock()
	for {
		if more, err := db.seal(); err != nil {
			t.Fatal(err)
		} else if !more {
			return
		}
	}
}

// varied appends updates of all sorts, n for each of some Things.
func varied(t *testing.T, db *DB, from, n int) {
	t.Helper()
	var all []thing.Update
	for i := from; i < from+n; i++ {
		batch := []thing.Update{
			recent("", i), recent("one.a", i), recent("few.a", i), recent("few.b", 7*i), recent("bytes.a", i),
			recent("all.a", i), recent(fmt.Sprintf("seldom.t%d", i%17), i),
		}
		batch[0].Doc, batch[1].Doc = nil, []byte("null")
		batch[2].Doc = fmt.Appendf(nil, `"http://example.org/%d"`, i/10)
		batch[4].Data = bytes.Repeat([]byte{'7'}, 1+i%300)
		batch[5].Doc = append(append([]byte{'"'}, bytes.Repeat([]byte{'x'}, 600+i%2)...), '"')
		batch[6].TS = -0.1 * float64(i)
		if i%50 == 0 {
			batch[3].Data = fmt.Appendf(nil, `"%x"`, bytes.Repeat([]byte{byte(i)}, 40_000))
		}
		all = append(all, batch...)
	}
	for batch := range slices.Chunk(all, 211) {
		if _, err := db.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
}

var variedRules = []store.Rule{
	{Prefix: "one", Limit: store.Limit{Count: 1}},
	{Prefix: "few", Limit: store.Limit{Count: 40}},
	{Prefix: "bytes", Limit: store.Limit{Bytes: 9000}},
	{Prefix: "seldom", Limit: store.Limit{Count: 5, Bytes: 2000}},
}

// tale is what a file answers beside the updates that it holds.
type tale struct {
	evicted []store.Page
	past    []string
}

// tells asks for what is evicted, and for the past.
func tells(t *testing.T, path string) tale {
	t.Helper()
	r, err := OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	var all tale
	head := r.State().Head
	middle := recent("", int(head/14)).Received
	later := middle + 20_000
	for _, q := range []store.Query{
		{Tree: true},
		{Tree: true, After: head / 2},
		{Tree: true, Since: &middle},
		{Tree: true, Since: &middle, Until: &later},
		{Name: "few", Tree: true},
		{Name: "few.a", After: head - 100},
		{Name: "few.a", Since: &middle},
		{Name: "bytes", Tree: true, Until: &middle},
		{Name: "all", Tree: true, Since: &middle},
		{Tree: true, Last: 3},
		{Name: "seldom", Tree: true, Since: &middle, By: store.ByTS},
	} {
		page, err := r.Read(t.Context(), q, func(*thing.Update) bool { return true })
		if err != nil || page.Next != nil {
			t.Fatalf("%+v: %v", page, err)
		}
		all.evicted = append(all.evicted, page)
	}
	for _, at := range []thing.Micros{0, middle, later, recent("", 1<<30).Received} {
		if _, err := r.db.AsOf(t.Context(), store.AsOf{Tree: true, At: at}, func(e *store.PastEntry) bool {
			all.past = append(all.past, fmt.Sprintf("%d %+v %s %v", at, e.Update, e.Doc, e.Unknown))
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	names := []thing.Name{"", "one.a", "few.a", "few.b", "bytes.a", "all.a", "seldom.t3", "none"}
	if err := r.db.Kept(t.Context(), names, func(i int, n uint64, oldest thing.Micros) {
		all.past = append(all.past, fmt.Sprintf("%q %d %d", names[i], n, oldest))
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// wantTells holds a copy's answers against those of what it was made of. The
// copy may know less well what is evicted, since it has nothing of that: never
// less of it, and nothing only where there is nothing.
func wantTells(t *testing.T, want, got tale) {
	t.Helper()
	for i, w := range want.evicted {
		g := got.evicted[i]
		same := g.Evicted == w.Evicted || (!g.EvictedExact && g.Evicted >= w.Evicted && w.Evicted > 0)
		if !same || g.Count != w.Count || g.First != w.First || g.Last != w.Last || g.Head != w.Head {
			t.Errorf("question %d is answered %+v, was %+v", i, g, w)
		}
	}
	wantHeld(t, "the past", got.past, want.past)
}

// What is forgotten is in no copy, and its name begins anew there too; what is
// forgotten while a backup is being taken is in it.
func TestCopyOfForgotten(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) { o.Rules = variedRules })
	varied(t, db, 0, 60)
	sealAll(t, db)
	forget := func(name thing.Name) {
		t.Helper()
		if all, err := db.Forget(t.Context(), name, true, false); err != nil || all.Things == 0 {
			t.Fatalf("%+v: %v", all, err)
		}
	}
	forget("few")
	varied(t, db, 60, 10) // under new ids
	forget("seldom")
	want := held(t, db)
	forgets := 0
	stream := backupOf(t, db, func(int64, int64) {
		if forgets++; forgets == 1 {
			forget("bytes")
			if err := db.Maintain(); err != nil {
				t.Error(err)
			}
		}
	})
	if forgets == 0 {
		t.Error("nothing was forgotten during the backup")
	}
	copied := restored(t, stream)
	wantHeld(t, "backup", heldBy(t, copied), want)
	want = held(t, db)
	mustClose(t, db)
	if _, err := Compact(t.Context(), db.path, nil); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, "compacted", heldBy(t, db.path), want)
	for _, path := range []string{copied, db.path} {
		again := openTest(t, path, func(o *Options) { o.Rules = variedRules })
		batch := []thing.Update{recent("seldom.t1", 1), recent("few.a", 2)}
		if _, err := again.Append(t.Context(), batch); err != nil || batch[0].ThingSeq != 1 || batch[1].ThingSeq != 11 {
			t.Errorf("the next ones are %+v: %v", batch, err)
		}
		mustClose(t, again)
	}
}
