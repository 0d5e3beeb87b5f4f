package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"tbhist/store"
	"tbhist/thing"
)

// aloneEnv is set in the process that alone made.
const aloneEnv = "TBHIST_TEST_ALONE"

// alone runs the calling test in a process of its own, where it is false: a
// limit that is the process's would else hold for whatever go test itself
// writes.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) == t.Name() {
		return false
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	c.Env = append(os.Environ(), aloneEnv+"="+t.Name())
	out, err := c.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return true
}

// limitFileSize lets the file of a history become no larger than it is, as a
// full disk would, until the test ends or lift is called.
func limitFileSize(t *testing.T, db *DB) (size int64, lift func()) {
	t.Helper()
	db.writing.Lock() // the background work may be about to let it grow
	defer db.writing.Unlock()
	size = fileSize(db)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	set := func(l unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &l); err != nil {
			t.Error(err)
		}
	}
	set(unix.Rlimit{Cur: uint64(size), Max: was.Max})
	t.Cleanup(func() { set(was) })
	return size, func() { set(was) }
}

// fillers makes batches of updates whose data cannot be compressed.
type fillers struct {
	things, size int
	n            int
	rnd          *rand.Rand
}

func (f *fillers) batch(n int) []thing.Update {
	batch := make([]thing.Update, n)
	data := make([]byte, f.size)
	for i := range batch {
		for j := range data {
			data[j] = byte(f.rnd.Uint32())
		}
		batch[i] = update(fmt.Sprintf("t%d", f.n%f.things), f.n)
		batch[i].Data = fmt.Appendf(nil, `"%x"`, data)
		f.n++
	}
	return batch
}

func newFillers(things, size int) *fillers {
	return &fillers{things: things, size: size, rnd: rand.New(rand.NewPCG(1, 1))}
}

func fileSize(db *DB) int64 { return db.fileStats().size }

// A file that cannot grow goes on: what rings evict makes room for what comes,
// segments are made and dropped, and nothing is refused.
func TestRingsTurnInFullFile(t *testing.T) {
	if alone(t) {
		return
	}
	const things, ring = 40, 50
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) {
		o.Rules = []store.Rule{{Limit: store.Limit{Count: ring}}}
	})
	f := newFillers(things, 150)
	for fileSize(db) < 10<<20 {
		if _, err := db.Append(t.Context(), f.batch(500)); err != nil {
			t.Fatal(err)
		}
	}
	full, _ := limitFileSize(t, db)
	first := f.n
	for f.n < first+30_000 {
		if _, err := db.Append(t.Context(), f.batch(500)); err != nil {
			t.Fatal(err)
		}
	}
	s := db.State()
	if s.Degraded != "" || s.Updates != things*ring || s.Head != uint64(f.n) || fileSize(db) != full {
		t.Errorf("state %+v in a file of %d bytes, want %d updates, head %d in %d bytes", s, fileSize(db), things*ring, f.n, full)
	}
	t.Logf("%d updates in a file of %d bytes; %d segments", f.n-first, full, db.Stats().Segments)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// A full file of which nothing may be evicted refuses, and keeps room enough to
// delete: with a limit everything that it frees can be used again.
func TestDeletingInFullFile(t *testing.T) {
	if alone(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path, refusing)
	f := newFillers(20, 150)
	for fileSize(db) < 8<<20 {
		if _, err := db.Append(t.Context(), f.batch(500)); err != nil {
			t.Fatal(err)
		}
	}
	full, lift := limitFileSize(t, db)
	var kept uint64
	var err error
	for err == nil {
		kept = db.State().Head
		_, err = db.Append(t.Context(), f.batch(500))
	}
	if !errors.Is(err, store.ErrNotKept) || !errors.Is(err, syscall.EFBIG) && db.State().Degraded == "" {
		t.Fatalf("Append to a full file: %v", err)
	}
	if left := db.pagesLeft(); left < reservePages {
		t.Errorf("%d pages are left, want %d in reserve", left, reservePages)
	}
	// The log becomes segments and a checkpoint is written all the same.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, path, func(o *Options) { o.Rules = []store.Rule{{Limit: store.Limit{Count: 10}}} })
	if s := db.State(); s.Head != kept || s.Updates != 200 {
		t.Errorf("state %+v after a start with a limit, want head %d, 200 updates", s, kept)
	}
	if err := db.Maintain(); err != nil {
		t.Error(err)
	}
	st := db.Stats()
	if st.FreePages < full/pageSize*3/4 {
		t.Errorf("%d of %d pages are free after all but 200 updates went", st.FreePages, full/pageSize)
	}
	for range 20 {
		if _, err := db.Append(t.Context(), f.batch(500)); err != nil {
			t.Fatal(err)
		}
	}
	if size := fileSize(db); size != full {
		t.Errorf("the file has %d bytes, want %d", size, full)
	}
	lift()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// A full file takes updates again by itself when the disk has room again.
func TestFullFileRecovers(t *testing.T) {
	if alone(t) {
		return
	}
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), refusing)
	defer mustClose(t, db)
	appendN(t, db, 0, 100)
	_, lift := limitFileSize(t, db)
	f := newFillers(20, 150)
	var err error
	for err == nil {
		_, err = db.Append(t.Context(), f.batch(500))
	}
	head := db.State().Head
	if !errors.Is(err, store.ErrNotKept) || db.State().Degraded == "" {
		t.Fatalf("Append to a full file: %v", err)
	}
	lift()
	for {
		got, err := db.Append(t.Context(), f.batch(1))
		if err == nil {
			if got[0].Seq != head+1 {
				t.Errorf("seq %d after %d", got[0].Seq, head)
			}
			return
		}
		if !errors.Is(err, store.ErrNotKept) {
			t.Fatal(err)
		}
	}
}

// Every transaction begins with the reserve, however the file was filled, and
// that grows no more than it takes.
func TestReserve(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer mustClose(t, db)
	f := newFillers(20, 1500)
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 60 {
		if _, err := db.Append(t.Context(), f.batch(1+rnd.IntN(200))); err != nil {
			t.Fatal(err)
		}
		db.writing.Lock()
		var top int64
		if err := db.update(false, func(tx *bbolt.Tx) error { top = tx.Size(); return nil }); err != nil {
			t.Fatal(err)
		}
		size := fileSize(db)
		db.writing.Unlock()
		if behind := (size - top) / pageSize; behind < reservePages*3/4 || behind > 4*reservePages {
			t.Fatalf("%d pages behind what is used, in a file of %d", behind, size)
		}
	}
}

// What is too much to forget in a full file is not forgotten, and costs no
// update; a part of it can be.
func TestForgetTooMuchInFullFile(t *testing.T) {
	if alone(t) {
		return
	}
	const things = 120_000
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	for i := 0; i < things; i += 8000 {
		batch := make([]thing.Update, 8000)
		for j := range batch {
			batch[j] = update(fmt.Sprintf("many.t%d.u%d", (i+j)/1000, i+j), i+j)
		}
		mustAppend(t, db, batch...)
	}
	limitFileSize(t, db)
	_, err := db.Forget(t.Context(), "many", true, false)
	if s := db.State(); !errors.Is(err, syscall.EFBIG) || s.Degraded != "" || s.Things != things {
		t.Errorf("%v; then %+v", err, s)
	}
	mustAppend(t, db, update("another", 1))
	if f := mustForget(t, db, "many.t7", true); f.Things != 1000 {
		t.Errorf("%d Things are forgotten", f.Things)
	}
	if s := db.State(); s.Things != things-1000+1 {
		t.Errorf("%+v", s)
	}
	mustClose(t, db)
}
