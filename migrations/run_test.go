package migrations

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"tbhist/store"
)

// writeOld makes a file of a format, with something in it.
func writeOld(t *testing.T, path string, format uint32) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		data, err := tx.CreateBucket([]byte("data"))
		if err != nil {
			return err
		}
		for i := range 100 {
			if err := data.Put(fmt.Append(nil, i), fmt.Append(nil, "value ", i)); err != nil {
				return err
			}
		}
		return putFormat(tx, format)
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func putFormat(tx *bbolt.Tx, format uint32) error {
	meta, err := tx.CreateBucketIfNotExists(bucketMeta)
	if err != nil {
		return err
	}
	return meta.Put(keyFormat, binary.BigEndian.AppendUint32(nil, format))
}

// stepTo copies all values, each with the new format behind it.
func stepTo(from, to uint32) Step {
	return Step{From: from, To: to, Run: func(ctx context.Context, src, dst *bbolt.DB, progress func(done, total int64)) error {
		return src.View(func(old *bbolt.Tx) error {
			return dst.Update(func(tx *bbolt.Tx) error {
				data, err := tx.CreateBucket([]byte("data"))
				if err != nil {
					return err
				}
				n := int64(0)
				if err := old.Bucket([]byte("data")).ForEach(func(k, v []byte) error {
					n++
					progress(n, 100)
					if err := ctx.Err(); err != nil {
						return err
					}
					return data.Put(k, fmt.Appendf(nil, "%s →%d", v, to))
				}); err != nil {
					return err
				}
				return putFormat(tx, to)
			})
		})
	}}
}

// wantFile checks the format of a file and one of its values.
func wantFile(t *testing.T, path string, format uint32, value string) {
	t.Helper()
	db, err := openSource(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if found, err := formatOf(db, path); err != nil || found != format {
		t.Errorf("%s has format %d, %v, want %d", path, found, err, format)
	}
	if err := db.View(func(tx *bbolt.Tx) error {
		if got := string(tx.Bucket([]byte("data")).Get([]byte("7"))); got != value {
			t.Errorf("%s holds %q, want %q", path, got, value)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// filesIn gives the names in a directory.
func filesIn(t *testing.T, dir string) string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func plenty(string) (int64, bool) { return 1 << 40, true }

// threeSteps leads from format 1 to 4.
var threeSteps = machine{[]Step{stepTo(1, 2), stepTo(2, 3), stepTo(3, 4)}, 4, plenty}

const valueOfFour = "value 7 →2 →3 →4"

// The real steps are none: a file of today is left alone.
func TestRunNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	writeOld(t, path, Current)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []func() (*Plan, error){
		func() (*Plan, error) { return Look(path) },
		func() (*Plan, error) { return Run(t.Context(), path, Options{}) },
	} {
		p, err := f()
		if err != nil || p.Found != Current || p.Current != Current || p.Need != 0 {
			t.Errorf("%+v, %v", p, err)
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || !slices.Equal(before, after) || filesIn(t, filepath.Dir(path)) != "a.db" {
		t.Errorf("the file changed, or others are there: %s, %v", filesIn(t, filepath.Dir(path)), err)
	}
}

func TestRunSteps(t *testing.T) {
	for from, m := range map[uint32]machine{1: threeSteps, 3: threeSteps} {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.db")
		writeOld(t, path, from)
		look, err := m.look(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := look.Size * int64(min(4-from, 2)); look.Need != want || look.Kept != fmt.Sprintf("%s.format-%d", path, from) {
			t.Errorf("from %d: %+v, want to need %d", from, look, want)
		}
		var told []string
		p, err := m.run(t.Context(), path, Options{Progress: func(step, steps int, done, total int64) {
			if done == total {
				told = append(told, fmt.Sprintf("%d/%d", step, steps))
			}
		}})
		if err != nil || *p != *look {
			t.Fatalf("from %d: %+v, %v", from, p, err)
		}
		if want := map[uint32]string{1: "1/3 2/3 3/3", 3: "1/1"}[from]; strings.Join(told, " ") != want {
			t.Errorf("from %d: progress %v", from, told)
		}
		wantFile(t, path, 4, map[uint32]string{1: valueOfFour, 3: "value 7 →4"}[from])
		wantFile(t, p.Kept, from, "value 7")
		if got, want := filesIn(t, dir), fmt.Sprintf("a.db a.db.format-%d", from); got != want {
			t.Errorf("there are %s, want %s", got, want)
		}
	}
}

// Ended in any step, by the context or by an error, nothing is changed and
// nothing left; the next run does it all.
func TestRunInterrupted(t *testing.T) {
	failing := errors.New("the disk refuses")
	for stopAt := 1; stopAt <= 3; stopAt++ {
		for _, cancelled := range []bool{true, false} {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.db")
			writeOld(t, path, 1)
			ctx, cancel := context.WithCancel(t.Context())
			m, want := threeSteps, error(context.Canceled)
			if !cancelled {
				want = failing
				m.steps = slices.Clone(m.steps)
				m.steps[stopAt-1].Run = func(context.Context, *bbolt.DB, *bbolt.DB, func(done, total int64)) error { return failing }
			}
			_, err := m.run(ctx, path, Options{Progress: func(step, _ int, done, _ int64) {
				if cancelled && step == stopAt && done == 50 {
					cancel()
				}
			}})
			cancel()
			if !errors.Is(err, want) {
				t.Errorf("ended in step %d: %v", stopAt, err)
			}
			if got := filesIn(t, dir); got != "a.db" {
				t.Errorf("ended in step %d: there are %s", stopAt, got)
			}
			wantFile(t, path, 1, "value 7")
			if _, err := threeSteps.run(t.Context(), path, Options{}); err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, 4, valueOfFour)
		}
	}
}

// What a run leaves that was killed is in nobody's way: files half made, and
// the old file under both names.
func TestRunAfterKill(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	writeOld(t, path, 1)
	for _, name := range madeNames(path) {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(path, path+".format-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := threeSteps.run(t.Context(), path, Options{}); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, 4, valueOfFour)
	wantFile(t, path+".format-1", 1, "value 7")
	if got := filesIn(t, dir); got != "a.db a.db.format-1" {
		t.Errorf("there are %s", got)
	}
}

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	writeOld(t, path, 1)

	full := threeSteps
	full.free = func(string) (int64, bool) { return 10_000, true }
	var space *SpaceError
	if _, err := full.run(t.Context(), path, Options{}); !errors.As(err, &space) || space.Free != 10_000 || space.Dir != dir {
		t.Errorf("a full disk: %v", err)
	}

	// An older file of that name is not overwritten.
	if err := os.WriteFile(path+".format-1", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := threeSteps.run(t.Context(), path, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the name for the old file is taken: %v", err)
	}
	if mine, err := os.ReadFile(path + ".format-1"); err != nil || string(mine) != "mine" {
		t.Errorf("it is %q now, %v", mine, err)
	}
	if err := os.Remove(path + ".format-1"); err != nil {
		t.Fatal(err)
	}

	// A step that does not write what it says.
	lying := machine{[]Step{{1, 2, stepTo(1, 3).Run}}, 2, plenty}
	if _, err := lying.run(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), "says it has format 3") {
		t.Errorf("a step that lies: %v", err)
	}

	// A broker has it open.
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := threeSteps.run(t.Context(), path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, dir); got != "a.db" {
		t.Errorf("there are %s", got)
	}
	wantFile(t, path, 1, "value 7")
}

// While it runs, no broker gets the file.
func TestRunLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	writeOld(t, path, 1)
	tried := false
	_, err := threeSteps.run(t.Context(), path, Options{Progress: func(step, _ int, done, _ int64) {
		if step != 3 || done != 1 {
			return
		}
		tried = true
		if db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 1}); err == nil {
			t.Error("somebody else could open it")
			_ = db.Close()
		}
	}})
	if err != nil || !tried {
		t.Errorf("tried: %v, %v", tried, err)
	}
}

func TestLookRefuses(t *testing.T) {
	dir := t.TempDir()
	text, newer, empty := filepath.Join(dir, "text"), filepath.Join(dir, "newer"), filepath.Join(dir, "empty")
	if err := os.WriteFile(text, []byte(strings.Repeat("no history. ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	writeOld(t, newer, Current+1)
	other := filepath.Join(dir, "other") // bbolt's, of another program
	db, err := bbolt.Open(other, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{text, empty, other} {
		if _, err := Look(path); !errors.Is(err, store.ErrNotHistory) {
			t.Errorf("%s: %v", path, err)
		}
	}
	var is *NewerError
	if _, err := Look(newer); !errors.As(err, &is) || is.Found != Current+1 {
		t.Errorf("newer: %v", err)
	}
	if _, err := Look(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if _, err := Look(dir); err == nil {
		t.Error("a directory is taken")
	}
}
