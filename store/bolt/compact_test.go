package bolt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tbhist/store"
)

// turning makes a closed history of which much is dead, in pieces.
func turning(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path, func(o *Options) { o.Rules = variedRules })
	for n := range 20 {
		varied(t, db, 100*n, 100)
		sealAll(t, db)
	}
	mustClose(t, db)
	return path
}

// What is compacted holds the same, in fewer bytes; also a file as a crash
// leaves it.
func TestCompact(t *testing.T) {
	path := turning(t)
	for range 2 {
		ro, err := OpenReadOnly(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		epoch, evicted := ro.State().Epoch, ro.db.evicted.Load()
		if err := ro.Close(); err != nil {
			t.Fatal(err)
		}
		want, told := heldBy(t, path), tells(t, path)
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+compactSuffix, []byte("left over"), 0o600); err != nil {
			t.Fatal(err)
		}
		var last, whole int64
		info, err := Compact(t.Context(), path, func(done, total int64) {
			if done < last || done > total {
				t.Errorf("%d of %d bytes after %d", done, total, last)
			}
			last, whole = done, total
		})
		if err != nil {
			t.Fatal(err)
		}
		if info.After >= info.Before || last != whole || last == 0 {
			t.Errorf("%+v, %d of %d bytes done", info, last, whole)
		}
		wantHeld(t, "compacted", heldBy(t, path), want)
		wantTells(t, told, tells(t, path))
		wantNone(t, path+compactSuffix)
		if s, err := os.Stat(path); err != nil || s.Mode().Perm() != 0o640 || s.Size() != info.After {
			t.Errorf("%v %v, want %+v: %v", s.Mode(), s.Size(), info, err)
		}
		db := openTest(t, path, func(o *Options) { o.Rules = variedRules })
		if db.epoch != epoch || db.evicted.Load() != evicted {
			t.Errorf("epoch %s with %d evicted became %s with %d", epoch, evicted, db.epoch, db.evicted.Load())
		}
		if db.maint.checkpointAt != db.head {
			t.Errorf("the checkpoint is at %d, the head %d", db.maint.checkpointAt, db.head)
		}
		wantHeld(t, "opened for serving", held(t, db), want)
		varied(t, db, 5000, 300)
		if err := db.Maintain(); err != nil {
			t.Error(err)
		}
		varied(t, db, 5300, 300)
		wantIndexed(t, db)
		path = crashed(t, db)
		mustClose(t, db)
	}
}

// Nothing is in a file that is compacted but what is kept: full segments.
func TestCompactSegments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	w := newWorkload(100, 700)
	for w.n < 90_000 {
		if _, err := db.Append(t.Context(), w.next()); err != nil {
			t.Fatal(err)
		}
		if w.n%7000 == 0 {
			sealAll(t, db)
		}
	}
	mustClose(t, db)
	if _, err := Compact(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	ro, err := OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var counts []int
	for _, seg := range ro.db.segs {
		counts = append(counts, seg.count)
	}
	if len(counts) != 3 || counts[0] < segmentTarget || counts[0] > segmentTarget+blockUpdates {
		t.Errorf("segments of %d updates", counts)
	}
	if err := ro.Close(); err != nil {
		t.Error(err)
	}
}

// What ends early leaves the file as it was, and nothing beside it.
func TestCompactRefuses(t *testing.T) {
	t.Parallel()
	path := turning(t)
	unchanged := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		wantNone(t, path+compactSuffix)
	}
	before := sum(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Compact(ctx, path, func(int64, int64) { cancel() })
	unchanged("cancelled", err, context.Canceled)
	ro, err := OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Compact(t.Context(), path, nil)
	unchanged("while it is read", err, store.ErrLocked)
	if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	if sum(t, path) != before {
		t.Error("the file was changed")
	}
	dir := t.TempDir()
	_, err = Compact(t.Context(), filepath.Join(dir, "none.db"), nil)
	unchanged("what is not there", err, os.ErrNotExist)
	_, err = Compact(t.Context(), dir, nil)
	unchanged("a folder", err, syscall.EISDIR)
	empty := filepath.Join(dir, "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Compact(t.Context(), empty, nil)
	unchanged("an empty file", err, store.ErrNotHistory)

	// One damaged block: what is in it may yet be wanted.
	ro, err = OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	seg := ro.db.segs[len(ro.db.segs)-1]
	if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, spoil(bucketBlocks, subKey(seg.first, 0)))
	before = sum(t, path)
	_, err = Compact(t.Context(), path, nil)
	var damage *store.CorruptionError
	if !errors.As(err, &damage) {
		t.Errorf("a damaged file: %v", err)
	}
	if sum(t, path) != before {
		t.Error("a damaged file was changed")
	}
	wantNone(t, path+compactSuffix)
}

// Who waits for the lock of a file that is replaced meanwhile opens the new
// one: the old one is nowhere any more.
func TestOpenCurrent(t *testing.T) {
	path, other := turning(t), turning(t)
	opened := 0
	f, err := openCurrent(path, func() (*file, error) {
		f, err := openFile(path, DefaultMaxDB)
		if opened++; opened == 1 && err == nil {
			err = os.Rename(other, path)
		}
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if opened != 2 || !f.isAt(path) {
		t.Errorf("opened %d times, and the file there is another", opened)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

func TestNewEpoch(t *testing.T) {
	t.Parallel()
	path := turning(t)
	db := openTest(t, path)
	was := db.epoch
	if _, _, err := NewEpoch(path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("of a file in use: %v", err)
	}
	mustClose(t, db)
	want := heldBy(t, path)
	old, now, err := NewEpoch(path)
	if err != nil || old != was || now == was || len(now) != 8 {
		t.Errorf("%s became %s, was %s: %v", old, now, was, err)
	}
	wantHeld(t, "with a new epoch", heldBy(t, path), want)
	db = openTest(t, path)
	if db.epoch != now {
		t.Errorf("epoch %s, want %s", db.epoch, now)
	}
	mustClose(t, db)
	none := filepath.Join(t.TempDir(), "none.db")
	if _, _, err := NewEpoch(none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
	wantNone(t, none)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, make([]byte, 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	before := sum(t, text)
	if _, _, err := NewEpoch(text); !errors.Is(err, store.ErrNotHistory) || sum(t, text) != before {
		t.Errorf("of no history: %v", err)
	}
}

// A file that a start would mend is not written to: what its pages say of what
// is free would be gone by.
func TestNewEpochOfDamaged(t *testing.T) {
	path := turning(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := openPages(f)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.at(p.meta.freelist, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The first free page becomes one that is in use.
	ids, used := list[pageHeader:], uint64(0)
	for _, id := range leavesOf(t, f, "blocks") {
		if used == 0 || id < used {
			used = id
		}
	}
	if n := list.count(); n < 2 || used >= native.Uint64(ids[8:]) {
		t.Fatalf("%d free pages, page %d is in use", n, used)
	}
	native.PutUint64(ids, used)
	if _, err := f.WriteAt(list, int64(p.meta.freelist)*pageSize); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	before := sum(t, path)
	var damage *store.CorruptionError
	if _, _, err := NewEpoch(path); !errors.As(err, &damage) || sum(t, path) != before {
		t.Errorf("%v", err)
	}
	mustClose(t, openTest(t, path)) // mends it
	if _, _, err := NewEpoch(path); err != nil {
		t.Error(err)
	}
}
