package bolt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// Whoever is reading when a Thing is forgotten gets nothing more of it, and
// an answer that goes on counts what went as evicted.
func TestForgetWhileRead(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer func() { mustClose(t, db) }()
	for i := range 300 {
		mustAppend(t, db, update("a", i), update("b.c", i), update("b.d", i))
		if i == 200 {
			if err := db.Maintain(); err != nil {
				t.Fatal(err)
			}
		}
	}
	forgotten := false
	forget := func() {
		if !forgotten {
			forgotten = true
			mustForget(t, db, "b", true)
		}
	}
	questions := []store.Query{
		{Tree: true},
		{Tree: true, Last: 250},
		{Name: "b", Tree: true},
		{Name: "b.d", Last: 280},
		{Tree: true, Last: 250, UpTo: 800},
		{Tree: true, Match: func(n thing.Name) bool { return n != "b.c" }},
	}
	type reading struct {
		q       store.Query
		evicted uint64
		exact   bool
		held    int // of what is asked for, when it began
	}
	var on []*reading
	for _, q := range questions {
		r := &reading{q: q, exact: true}
		all, page := holds(t, db, q)
		if page.Evicted != 0 {
			t.Fatalf("%+v: %d evicted", q, page.Evicted)
		}
		r.held = len(all)
		on = append(on, r)
	}
	read := func(r *reading, most int) (n int) {
		page, err := db.Read(t.Context(), r.q, func(u *thing.Update) bool {
			if forgotten && u.Name != "a" {
				t.Errorf("%+v brings %q/%d, which is forgotten", r.q, u.Name, u.ThingSeq)
			}
			if n >= most {
				forget() // within a page
				return false
			}
			n++
			return true
		})
		if err != nil {
			t.Fatalf("%+v: %v", r.q, err)
		}
		r.q.Resume, r.evicted, r.exact = page.Next, r.evicted+page.Evicted, r.exact && page.EvictedExact
		return n
	}
	given := make([]int, len(on))
	for i, r := range on[1:] {
		page, err := db.Read(t.Context(), r.q, func(*thing.Update) bool { given[i+1]++; return given[i+1] <= 40 })
		if err != nil {
			t.Fatal(err)
		}
		given[i+1]--
		r.q.Resume = page.Next
	}
	given[0] = read(on[0], 40)
	if !forgotten {
		t.Fatal("nothing was forgotten")
	}
	for i, r := range on {
		for first := true; first || r.q.Resume != nil; first = false {
			given[i] += read(r, 1<<30)
		}
		if missing := uint64(r.held - given[i]); r.evicted < missing || (r.exact && r.evicted != missing) {
			t.Errorf("%+v: %d of %d were given, %d are said to be evicted (exact %v)", questions[i], given[i], r.held, r.evicted, r.exact)
		}
	}

	// A directory of the past, forgotten under way.
	mustAppend(t, db, update("b.c", 0), update("b.d", 0), update("c", 0))
	var names []thing.Name
	if _, err := db.AsOf(t.Context(), store.AsOf{Tree: true, At: update("", 999).Received}, func(e *store.PastEntry) bool {
		names = append(names, e.Update.Name)
		if e.Update.Name == "b.c" {
			mustForget(t, db, "b", true)
		}
		return true
	}); err != nil || !slices.Equal(names, []thing.Name{"a", "b.c", "c"}) {
		t.Errorf("the past directory has %q, %v", names, err)
	}
}

// The space of forgotten Things is given back, segments and log alike, and
// what is known of the old ones is bounded.
func TestForgetGivesSpaceBack(t *testing.T) {
	t.Parallel()
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer func() { mustClose(t, db) }()
	for i := range 40 {
		var batch []thing.Update
		for j := range 100 {
			u := update(fmt.Sprintf("big.t%d", j), i)
			u.Data = []byte(`"` + noise(i*100+j, 12_000) + `"`)
			batch = append(batch, u, update("small", i))
		}
		mustAppend(t, db, batch...)
		if i == 30 {
			if err := db.Maintain(); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := db.Stats()
	if before.LogBytes < 5<<20 || before.SegmentBytes < 20<<20 {
		t.Fatalf("too little to tell: %+v", before)
	}
	mustForget(t, db, "big", true)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	after := db.Stats()
	if after.SegmentBytes+after.LogBytes > 1<<20 || after.Updates != 4000 {
		t.Errorf("after all was forgotten: %+v", after)
	}
	if page, err := db.Read(t.Context(), store.Query{Name: "small"}, func(*thing.Update) bool { return true }); err != nil || page.Count != 4000 {
		t.Errorf("%+v, %v", page, err)
	}
}

// noise is text that no codec makes much shorter.
func noise(seed, n int) string {
	var b strings.Builder
	for x := uint64(seed)*2654435761 + 88172645463325252; b.Len() < n; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteString(strconv.FormatUint(x, 36))
	}
	return b.String()
}

// A tree is forgotten as a whole or not at all, whenever the process is
// killed. TBHIST_FORGET_THINGS makes it larger.
func TestForgetTreeCrash(t *testing.T) {
	things := 4000
	if n, err := strconv.Atoi(os.Getenv("TBHIST_FORGET_THINGS")); err == nil {
		things = n
	}
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer func() { mustClose(t, db) }()
	for i := 0; i < things; i += 1000 {
		var batch []thing.Update
		for j := range min(1000, things-i) {
			batch = append(batch, update(fmt.Sprintf("tree.t%d", i+j), 1))
		}
		mustAppend(t, db, append(batch, update("other", i))...)
	}
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	// One transaction at a time, so that a copy has the pages of its state.
	db.maintaining.Lock()
	files := []string{crashedHeld(t, db)}
	done := make(chan error, 1)
	go func() {
		_, err := db.Forget(t.Context(), "tree", true, false)
		done <- err
	}()
	for forgotten := false; !forgotten; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			forgotten = true
		default:
		}
		files = append(files, crashedHeld(t, db))
	}
	db.maintaining.Unlock()
	if len(files) > 12 {
		files = append(files[:6], files[len(files)-6:]...)
	}
	outcomes := make([]int, 0, len(files))
	for _, path := range files {
		again := openTest(t, path)
		s := again.State()
		if s.Things != 1 && s.Things != 1+things || s.Updates != uint64(s.Things-1+(things+999)/1000) {
			t.Errorf("half is forgotten: %+v", s)
		}
		outcomes = append(outcomes, s.Things)
		mustClose(t, again)
	}
	if first, last := outcomes[0], outcomes[len(outcomes)-1]; first != 1+things || last != 1 || !slices.IsSortedFunc(outcomes, func(a, b int) int { return cmp.Compare(b, a) }) {
		t.Errorf("one after the other there are %v", outcomes)
	}
}

// A disk that refuses forgets nothing, and says so.
func TestForgetRefused(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	appendN(t, db, 0, 3)
	db.writing.Lock()
	_ = db.file.os.Close()
	db.writing.Unlock()
	dry, err := db.Forget(t.Context(), "a", false, true)
	if err != nil || dry.Updates != 3 {
		t.Errorf("%+v, %v", dry, err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Forget(cancelled, "a", false, false); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// What refuses for a moment is tried again.
	if f := mustForget(t, db, "b.c", false); f.Updates != 3 {
		t.Errorf("%+v", f)
	}
	if all, _ := holds(t, db, store.Query{Tree: true}); len(all) != 3 {
		t.Errorf("there is %v", all)
	}
	db.setDegraded(errors.New("no space left on device"))
	if _, err := db.Forget(t.Context(), "a", false, false); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
	db.setDegraded(nil)
	if f := mustForget(t, db, "a", false); f.Updates != 3 {
		t.Errorf("%+v", f)
	}
	mustClose(t, db)
	if _, err := db.Forget(t.Context(), "b", true, false); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
