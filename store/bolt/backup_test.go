package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// A backup holds what the history held when it began, whatever becomes of that
// meanwhile: rings turn, age and limits evict, segments are made, joined and
// dropped.
func TestBackupWhileAllGoes(t *testing.T) {
	var now atomic.Int64
	now.Store(time.UnixMicro(1e15 + 7e14).UnixMicro())
	rules := append([]store.Rule{{Prefix: "all", Limit: store.Limit{Age: time.Hour}}}, variedRules...)
	options := func(o *Options) {
		o.Rules, o.TrustClock, o.lazyAge = rules, true, true
		o.Now = func() time.Time { return time.UnixMicro(now.Load()) }
	}
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), options)
	defer mustClose(t, db)
	n := 0
	more := func(k int) {
		varied(t, db, n, k)
		n += k
	}
	for round := range 3 {
		// It begins with several segments, which nobody joins before.
		db.maintaining.Lock()
		join := sync.OnceFunc(db.maintaining.Unlock)
		for range 12 {
			more(40)
			if _, err := db.seal(); err != nil {
				t.Error(err)
			}
		}
		more(30) // these in the log
		want := held(t, db)
		calls := 0
		stream := backupOf(t, db, func(done, total int64) {
			if done > total {
				t.Errorf("%d of %d bytes are done", done, total)
			}
			if calls++; calls > 6 {
				return
			}
			join()
			more(45)
			now.Add(int64(2 * time.Hour / time.Microsecond))
			if err := db.Maintain(); err != nil {
				t.Error(err)
			}
			varied(t, db, n, 3)
			n += 3
		})
		if join(); calls < 3 {
			t.Errorf("only %d segments were copied", calls)
		}
		path := restored(t, stream)
		wantHeld(t, fmt.Sprintf("backup %d", round), heldBy(t, path), want)
		// As a broker has it: limits of the time are in it.
		again := openTest(t, path, options)
		wantHeld(t, "opened for serving", held(t, again), want)
		if again.maint.checkpointAt != again.head {
			t.Errorf("the checkpoint is at %d, the head %d", again.maint.checkpointAt, again.head)
		}
		varied(t, again, n, 20)
		wantIndexed(t, again)
		mustClose(t, again)
		if db.pin.Load() != nil {
			t.Error("space is held back for a backup that is done")
		}
	}
}

// Backups under load, of rings that turn as fast as can be, against a model.
func TestBackupUnderLoad(t *testing.T) {
	prefixes := map[thing.Name]store.Limit{
		"one": {Count: 1}, "few": {Count: 7}, "many": {Count: 900},
		"bytes": {Bytes: 5000}, "both": {Count: 900, Bytes: 40_000}, "all": {Count: store.Unlimited},
	}
	limits := make(map[thing.Name]store.Limit)
	var rules []store.Rule
	var names []thing.Name
	for prefix, l := range prefixes {
		rules = append(rules, store.Rule{Prefix: prefix, Limit: l})
		for i := range 12 {
			name := thing.Name(fmt.Sprintf("%s.t%d", prefix, i))
			names, limits[name] = append(names, name), l
		}
	}
	slices.Sort(names)
	withRules := func(o *Options) { o.Rules = rules }
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), withRules)
	defer mustClose(t, db)
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []thing.Update // by seq
	fill := func(until func() bool) {
		for !until() {
			batch := make([]thing.Update, 1+rnd.IntN(600))
			for i := range batch {
				name := names[rnd.IntN(len(names))]
				batch[i] = update(string(name), len(all)+i)
			}
			if _, err := db.Append(t.Context(), batch); err != nil {
				t.Error(err)
				return
			}
			all = append(all, batch...)
		}
	}
	fill(func() bool { return len(all) > 35_000 })
	type taken struct {
		stream []byte
		info   BackupInfo
	}
	backups := make(chan taken, 2)
	go func() {
		defer close(backups)
		for range cap(backups) {
			var out bytes.Buffer
			info, err := db.Backup(t.Context(), &out, nil)
			if err != nil {
				t.Error(err)
				return
			}
			backups <- taken{out.Bytes(), info}
		}
	}()
	var got []taken
	fill(func() bool {
		select {
		case b, ok := <-backups:
			if ok {
				got = append(got, b)
			}
			return !ok
		default:
			return false
		}
	})
	for i, b := range got {
		m := &turned{limits: limits, rings: make(map[thing.Name]*turnedRing)}
		m.append(all[:b.info.Head])
		path := restored(t, b.stream)
		again := openTest(t, path, withRules)
		m.want(t, again, fmt.Sprintf("backup %d, up to %d", i, b.info.Head))
		mustClose(t, again)
	}
}

// A stream that is cut, changed or goes on is no backup, and what is at its
// place stays.
func TestBackupStreamDamaged(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) { o.Rules = variedRules })
	varied(t, db, 0, 60)
	stream := backupOf(t, db, nil)
	mustClose(t, db)
	path := filepath.Join(t.TempDir(), "here.db")
	if err := os.WriteFile(path, []byte("what was here"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := sum(t, path)
	refused := func(what string, damaged []byte) {
		t.Helper()
		if _, err := WriteBackup(t.Context(), path, bytes.NewReader(damaged), nil); !errors.Is(err, ErrBadBackup) {
			t.Errorf("%s: %v", what, err)
		}
		if sum(t, path) != before {
			t.Fatalf("%s: the file was changed", what)
		}
		wantNone(t, path+backupSuffix)
	}
	for n := 0; n < len(stream); n += 1 + len(stream)/40 {
		refused(fmt.Sprintf("cut to %d of %d bytes", n, len(stream)), stream[:n])
	}
	refused("without its last byte", stream[:len(stream)-1])
	refused("without its last chunk", stream[:len(stream)-chunkHeader-streamEnd])
	refused("with a byte more", append(slices.Clone(stream), 0))
	refused("twice", append(slices.Clone(stream), stream...))
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		spoilt := slices.Clone(stream)
		at := rnd.IntN(len(spoilt))
		if rnd.IntN(3) == 0 {
			at = rnd.IntN(streamHeader + chunkHeader)
		}
		spoilt[at] ^= 1 << rnd.IntN(8)
		refused(fmt.Sprintf("with byte %d changed", at), spoilt)
	}
	refused("text", []byte("GET / HTTP/1.1\r\n\r\nand something more, so that it is long enough"))
	if _, err := WriteBackup(t.Context(), path, bytes.NewReader(stream), nil); err != nil {
		t.Error(err)
	}
}

// heldUp is a writer that takes the first so many bytes and then waits.
type heldUp struct {
	takes   int64
	waiting chan struct{} // closed when it waits
	release chan struct{}
	waited  bool
}

func newHeldUp(takes int64) *heldUp {
	return &heldUp{takes: takes, waiting: make(chan struct{}), release: make(chan struct{})}
}

func (w *heldUp) Write(b []byte) (int, error) {
	if w.takes -= int64(len(b)); w.takes < 0 && !w.waited {
		w.waited = true
		close(w.waiting)
		<-w.release
	}
	return len(b), nil
}

// One backup at a time; the history goes on while its writer is stuck; what is
// held back for it is let go at once when nobody wants it any more.
func TestBackupHeldUp(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) { o.Rules = variedRules })
	defer mustClose(t, db)
	varied(t, db, 0, 50)
	sealAll(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	w := newHeldUp(100)
	done := make(chan error)
	go func() {
		_, err := db.Backup(ctx, w, nil)
		done <- err
	}()
	<-w.waiting
	if _, err := db.Backup(t.Context(), io.Discard, nil); !errors.Is(err, ErrBackupRunning) {
		t.Errorf("a second backup: %v", err)
	}
	varied(t, db, 50, 200)
	if err := db.Maintain(); err != nil {
		t.Error(err)
	}
	if db.pin.Load() == nil {
		t.Error("nothing is held back for a backup")
	}
	cancel()
	until(t, func() bool { return db.pin.Load() == nil })
	close(w.release)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a backup that nobody wants any more: %v", err)
	}
	backupOf(t, db, nil)
}

// until waits for a condition that somebody else brings about.
func until(t *testing.T, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("it does not come about")
		}
	}
}

// A history closes though a backup's writer is stuck.
func TestBackupAndClose(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	varied(t, db, 0, 50)
	sealAll(t, db)
	for _, takes := range []int64{10, 2000} {
		w := newHeldUp(takes)
		done := make(chan error)
		go func() {
			_, err := db.Backup(t.Context(), w, nil)
			done <- err
		}()
		<-w.waiting
		mustClose(t, db)
		close(w.release)
		if err := <-done; !errors.Is(err, store.ErrClosed) {
			t.Errorf("a backup of a history that closed: %v", err)
		}
		db = openTest(t, db.path)
	}
	mustClose(t, db)
	if _, err := db.Backup(t.Context(), io.Discard, nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a backup of a closed history: %v", err)
	}
}

// failing writes nothing.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestBackupWriterFails(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer mustClose(t, db)
	varied(t, db, 0, 5)
	gone := errors.New("gone away")
	if _, err := db.Backup(t.Context(), failing{gone}, nil); !errors.Is(err, gone) {
		t.Errorf("a writer that fails: %v", err)
	}
	if db.pin.Load() != nil {
		t.Error("space is held back for a backup that failed")
	}
}

// A backup holds back space until the history needs it; then the history comes
// first, and the backup fails if it lacks anything.
func TestBackupOverrun(t *testing.T) {
	for _, c := range []struct {
		what   string
		copied int // segments, before the history needs the room
		wants  error
	}{{"that lacks something", 1, ErrBackupOverrun}, {"that had copied everything", 6, nil}} {
		db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) { o.Rules = variedRules })
		db.maintaining.Lock() // what follows is the background work
		for n := range 6 {
			varied(t, db, 20*n, 20)
			if _, err := db.seal(); err != nil {
				t.Error(err)
			}
		}
		want := held(t, db)
		calls := 0
		var out bytes.Buffer
		_, err := db.Backup(t.Context(), &out, func(int64, int64) {
			if calls++; calls != c.copied {
				return
			}
			varied(t, db, 1000, 300)
			// As if it had been chosen before the backup began.
			if err := db.rewrite(db.segments()[1:3]); c.wants != nil && !errors.Is(err, errPinned) {
				t.Errorf("what a backup needs was rewritten: %v", err)
			}
			segs := len(db.segments())
			if err := db.reclaimAll(); err != nil {
				t.Error(err)
			}
			pinned := db.pin.Load()
			if c.wants != nil && (pinned.released.Load() || len(db.segments()) != segs) {
				t.Errorf("of %d segments %d are left, while a backup needs them", segs, len(db.segments()))
			}
			db.failing.Store(&failure{since: time.Now(), err: errors.New("no space left on device")})
			if err := db.reclaimAll(); err != nil {
				t.Error(err)
			}
			if len(db.segments()) == segs {
				t.Error("nothing was given back, though there is need")
			}
		})
		db.maintaining.Unlock()
		if !errors.Is(err, c.wants) {
			t.Errorf("a backup %s: %v", c.what, err)
		}
		if err == nil {
			wantHeld(t, c.what, heldBy(t, restored(t, out.Bytes())), want)
		}
		mustClose(t, db)
	}
}

// What is at the place of a backup: an older backup gives way, a history that
// somebody has open does not; a link is followed.
func TestWriteBackupInPlaceOf(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, filepath.Join(dir, "history.db"))
	varied(t, db, 0, 5)
	stream := backupOf(t, db, nil)
	write := func(path string) error {
		_, err := WriteBackup(t.Context(), path, bytes.NewReader(stream), nil)
		return err
	}
	if err := write(db.path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("in the place of a history in use: %v", err)
	}
	want := held(t, db)
	varied(t, db, 5, 5)
	mustClose(t, db)
	path, link := filepath.Join(dir, "backup.db"), filepath.Join(dir, "link.db")
	if err := os.WriteFile(path+backupSuffix, []byte("left over"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{path, path, link} {
		if err := write(at); err != nil {
			t.Fatal(err)
		}
		wantNone(t, path+backupSuffix)
		wantHeld(t, at, heldBy(t, at), want)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became a file: %v", err)
	}
	if err := write(dir); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("in the place of a folder: %v", err)
	}
	if err := write(filepath.Join(dir, "none", "backup.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in no folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := sum(t, path)
	if _, err := WriteBackup(ctx, path, bytes.NewReader(stream), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if sum(t, path) != before {
		t.Error("cancelled, it changed what was there")
	}
	wantNone(t, path+backupSuffix)
}

// A copy has the epoch of its history until somebody serves it, and then one
// of its own, once and for all.
func TestBackupEpoch(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	varied(t, db, 0, 5)
	path := restored(t, backupOf(t, db, nil))
	was := db.epoch
	mustClose(t, db)
	before := sum(t, path)
	ro, err := OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := ro.State().Epoch; got != was {
		t.Errorf("a copy that is read is of epoch %s, want %s", got, was)
	}
	// A backup of a backup.
	var out bytes.Buffer
	if _, err := ro.Backup(t.Context(), &out, nil); err != nil {
		t.Fatal(err)
	}
	if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	if sum(t, path) != before {
		t.Error("reading a copy changed it")
	}
	if _, err := Compact(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{path, restored(t, out.Bytes())} {
		first := openTest(t, at)
		own := first.epoch
		mustClose(t, first)
		again := openTest(t, at)
		if own == was || len(own) != 8 || again.epoch != own {
			t.Errorf("a copy of %s that is served is of epoch %s, and then of %s", was, own, again.epoch)
		}
		mustClose(t, again)
	}
}

// A backup of a file that is only read is made of segments as large as those of
// a running history.
func TestBackupOfReadOnly(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	varied(t, db, 0, 300)
	sealAll(t, db)
	want := db.Stats().Segments
	mustClose(t, db)
	ro, err := OpenReadOnly(db.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := ro.Backup(t.Context(), &out, nil); err != nil {
		t.Fatal(err)
	}
	if err := ro.Close(); err != nil {
		t.Error(err)
	}
	copied := openTest(t, restored(t, out.Bytes()))
	if got := copied.Stats().Segments; got != want {
		t.Errorf("%d segments, want %d", got, want)
	}
	mustClose(t, copied)
}

// A history that somebody begins where a backup is being written is not lost.
func TestWriteBackupBesideNew(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	varied(t, db, 0, 5)
	stream := backupOf(t, db, nil)
	mustClose(t, db)
	path := filepath.Join(t.TempDir(), "other.db")
	var other *DB
	_, err := WriteBackup(t.Context(), path, bytes.NewReader(stream), func(int64, int64) {
		if other == nil {
			other = openTest(t, path)
			appendN(t, other, 0, 5)
		}
	})
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
	wantNone(t, path+backupSuffix)
	mustClose(t, other)
	other = openTest(t, path)
	wantWhole(t, other, 10)
	mustClose(t, other)
}
