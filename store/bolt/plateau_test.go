package bolt

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// While rings turn for long, the file comes to rest: the second half of the
// turns adds no more than a few steps of growing. It takes that long to see
// free pages go to pieces (docs/PERFORMANCE.md).
func TestPlateauRests(t *testing.T) {
	const things, ring = 1000, 1000
	turns, err := strconv.Atoi(os.Getenv("TBHIST_TURNS"))
	if err != nil {
		t.Skip("it takes minutes: make plateau runs it, with TBHIST_TURNS=40")
	}
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) {
		o.Rules = []store.Rule{{Limit: store.Limit{Count: ring}}}
	})
	defer mustClose(t, db)
	w := newWorkload(things, 4096)
	var half int64
	for turn := 1; turn <= turns; turn++ {
		for w.n < things*ring*turn {
			if _, err := db.Append(t.Context(), w.next()); err != nil {
				t.Fatal(err)
			}
		}
		st := db.Stats()
		t.Logf("turn %d: file %d KiB, in use %d KiB", turn, st.FileBytes>>10, (st.FileBytes-st.FreePages*pageSize)>>10)
		if turn == turns/2 {
			half = st.FileBytes
		}
	}
	if size := db.Stats().FileBytes; size > half+4<<20 {
		t.Errorf("the file has %d KiB, %d KiB after half of the turns", size>>10, half>>10)
	}
}

// While rings turn, the file keeps its size: ten turns may not leave it above
// one and a half times what is in use plus 16 MiB, and what is in use follows
// what is kept.
func TestPlateau(t *testing.T) {
	t.Parallel()
	const things, ring, turns = 500, 200, 10
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) {
		o.Rules = []store.Rule{{Limit: store.Limit{Count: ring}}}
	})
	w := newWorkload(things, 1000)
	for w.n < things*ring*turns {
		if _, err := db.Append(t.Context(), w.next()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	st := db.Stats()
	used := st.FileBytes - st.FreePages*pageSize
	t.Logf("file %d KiB, in use %d KiB, segments %d KiB of which live %d KiB, %d updates in %d segments",
		st.FileBytes>>10, used>>10, st.SegmentBytes>>10, st.LiveBytes>>10, st.Updates, st.Segments)
	if st.FileBytes > used*3/2+16<<20 {
		t.Errorf("the file has %d bytes with %d in use", st.FileBytes, used)
	}
	if used > st.LiveBytes*5/4+2*spare {
		t.Errorf("%d bytes are in use for %d of what is kept", used, st.LiveBytes)
	}
	if st.Updates != things*ring {
		t.Errorf("%d updates are kept, want %d", st.Updates, things*ring)
	}
	// Every segment says the truth about itself.
	var live int64
	db.maintaining.Lock() // counting is the background work's
	for _, seg := range db.segments() {
		if err := db.view(func(s *snapshot) error { return s.countLive(seg, s.firstKept()) }); err != nil {
			t.Error(err)
		}
		live += seg.live.Load()
	}
	db.maintaining.Unlock()
	counted := 0
	if _, err := db.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { counted++; return true }); err != nil {
		t.Error(err)
	}
	if live != things*ring || counted != things*ring {
		t.Errorf("index says %d are live, a reading finds %d, want %d", live, counted, things*ring)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
