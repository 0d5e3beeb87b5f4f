package bolt

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"tbhist/thing"
)

// metaPages gives the numbers of the two meta pages, the newest first.
func metaPages(t *testing.T, raw []byte) (newest, older int) {
	t.Helper()
	a, okA := metaID(raw)
	b, okB := metaID(raw[pageSize:])
	if !okA || !okB || a == b {
		t.Fatalf("meta pages of transactions %d (%v) and %d (%v)", a, okA, b, okB)
	}
	if a > b {
		return 0, 1
	}
	return 1, 0
}

// spoilMeta flips a bit of the root's number in a meta page.
func spoilMeta(raw []byte, page int) { raw[page*pageSize+metaAt+16] ^= 4 }

// damagedCopy gives a copy of a file, changed by some function.
func damagedCopy(t *testing.T, path string, change func(raw []byte)) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change(raw)
	to := filepath.Join(t.TempDir(), "damaged.db")
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// wantEpoch opens the history and checks whether its epoch is the one that is
// given, and whether damage was said. It gives the epoch and the head.
func wantEpoch(t *testing.T, path, was string, same, said bool) (string, uint64) {
	t.Helper()
	d := &damageCount{}
	db := openTest(t, path, func(o *Options) { o.Logger = slog.New(d) })
	defer mustClose(t, db)
	s := db.State()
	if !validEpoch([]byte(s.Epoch)) || (s.Epoch == was) != same {
		t.Errorf("epoch %q, was %q: the same %v is wanted", s.Epoch, was, same)
	}
	if (d.n.Load() > 0) != said {
		t.Errorf("said is %s; damage %v is wanted", d.first(), said)
	}
	return s.Epoch, s.Head
}

// Where the newest commit may be gone, its seqs are given again under another
// epoch.
func TestMetaPageDamaged(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	appendN(t, db, 0, 5)
	was, whole := db.State().Epoch, crashed(t, db)
	mustClose(t, db)
	for name, c := range map[string]struct {
		newest bool
		head   uint64
	}{"newest": {true, 8}, "older": {false, 10}} {
		t.Run(name, func(t *testing.T) {
			path := damagedCopy(t, whole, func(raw []byte) {
				newest, older := metaPages(t, raw)
				if c.newest {
					spoilMeta(raw, newest)
				} else {
					spoilMeta(raw, older)
				}
			})
			ro, err := OpenReadOnly(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if s := ro.State(); s.Epoch != was || s.Head != c.head {
				t.Errorf("read only it is %+v", s)
			}
			if err := ro.Close(); err != nil {
				t.Error(err)
			}
			now, head := wantEpoch(t, path, was, false, true)
			if head != c.head {
				t.Errorf("head %d, want %d", head, c.head)
			}
			wantEpoch(t, path, now, true, false)
		})
	}
	wantEpoch(t, whole, was, true, false)
}

// appendMany appends as much as appendN, at once.
func appendMany(t *testing.T, db *DB, from, n int) {
	t.Helper()
	us := make([]thing.Update, 0, 2*n)
	for i := from; i < from+n; i++ {
		us = append(us, update("a", i), update("b.c", i))
	}
	mustAppend(t, db, us...)
}

// A start that is killed right after it mended the pages leaves both meta pages
// whole, and the doubt all the same.
func TestMetaPageDamagedAndMended(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	appendMany(t, db, 0, 200)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	was, whole := db.State().Epoch, crashed(t, db)
	leaf := leavesOf(t, db.file.os, "blocks")[0]
	mustClose(t, db)
	for name, both := range map[string]bool{"both": true, "a page alone": false} {
		t.Run(name, func(t *testing.T) {
			path := damagedCopy(t, whole, func(raw []byte) {
				clear(raw[leaf*pageSize:][:512])
				if both {
					newest, _ := metaPages(t, raw)
					spoilMeta(raw, newest)
				}
			})
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			found, err := mendPages(f)
			if err := errors.Join(err, f.Close()); err != nil || len(found) == 0 {
				t.Fatal(found, err)
			}
			now, _ := wantEpoch(t, path, was, !both, both)
			wantEpoch(t, path, now, true, false)
		})
	}
}

// Compacting keeps the doubt.
func TestMetaPageDamagedAndCompacted(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	appendN(t, db, 0, 5)
	was, whole := db.State().Epoch, crashed(t, db)
	mustClose(t, db)
	path := damagedCopy(t, whole, func(raw []byte) {
		newest, _ := metaPages(t, raw)
		spoilMeta(raw, newest)
	})
	for _, c := range []struct {
		path string
		same bool
	}{{path, false}, {whole, true}} {
		if _, err := Compact(t.Context(), c.path, nil); err != nil {
			t.Fatal(err)
		}
		now, _ := wantEpoch(t, c.path, was, c.same, false)
		wantEpoch(t, c.path, now, true, false)
	}
}

// A history that is open knows what it committed: its epoch stays where the
// file has that, and where it has not, nothing is written to it.
func TestMetaPageDamagedWhileOpen(t *testing.T) {
	for name, c := range map[string]struct{ newest, page bool }{
		"older": {false, false}, "older and a page": {false, true},
		"newest": {true, false}, "newest and a page": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.db")
			db := openTest(t, path)
			appendMany(t, db, 0, 200)
			if err := db.Maintain(); err != nil {
				t.Fatal(err)
			}
			appendN(t, db, 200, 1)
			was := db.State().Epoch
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			db.writing.Lock()
			if c.page {
				at := int64(leavesOf(t, db.file.os, "blocks")[0]) * pageSize
				if _, err := db.file.os.WriteAt(make([]byte, 512), at); err != nil {
					t.Fatal(err)
				}
			}
			newest, older := metaPages(t, raw)
			damage := older
			if c.newest {
				damage = newest
			}
			spoilMeta(raw, damage)
			if _, err := db.file.os.WriteAt(raw[damage*pageSize:][:pageSize], int64(damage)*pageSize); err != nil {
				t.Fatal(err)
			}
			db.suspect.Store(true)
			err = db.reopen(false)
			db.writing.Unlock()
			if (err != nil) != c.newest || (err != nil && !strings.Contains(err.Error(), "was written last")) {
				t.Errorf("opening it anew: %v", err)
			}
			if !c.newest {
				appendN(t, db, 201, 1)
			}
			if now := db.State().Epoch; now != was {
				t.Errorf("epoch %q, was %q", now, was)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			// Pages that were mended keep the doubt until a start.
			same := !c.newest && !c.page
			now, _ := wantEpoch(t, path, was, same, !same)
			wantEpoch(t, path, now, true, false)
		})
	}
}

// A damaged epoch is never told: it gives way to a new one.
func TestDamagedEpoch(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	appendN(t, db, 0, 5)
	mustClose(t, db)
	for _, bad := range []string{"", "da943e5", "da943e577", "DA943E57", "da943\x0057", "da94g\"57"} {
		path := damagedCopy(t, db.path, func([]byte) {})
		edit(t, path, func(tx *bbolt.Tx) error {
			if bad == "" {
				return tx.Bucket(bucketMeta).Delete(keyEpoch)
			}
			return tx.Bucket(bucketMeta).Put(keyEpoch, []byte(bad))
		})
		ro, err := OpenReadOnly(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if s := ro.State(); s.Epoch != unknownEpoch || s.Head != 10 {
			t.Errorf("%q: read only it is %+v", bad, s)
		}
		var backup bytes.Buffer
		_, err = ro.Backup(t.Context(), &backup, nil)
		if err := errors.Join(err, ro.Close()); err != nil {
			t.Errorf("%q: %v", bad, err)
		}
		to := filepath.Join(t.TempDir(), "backup.db")
		if _, err := WriteBackup(t.Context(), to, &backup, nil); err != nil {
			t.Errorf("%q: restoring a backup: %v", bad, err)
		}
		report, err := Check(t.Context(), path, nil)
		if err != nil || len(report.Problems) == 0 {
			t.Errorf("%q: Check says %+v, %v", bad, report, err)
		}
		for _, p := range []string{path, to} {
			now, head := wantEpoch(t, p, unknownEpoch, false, true)
			if head != 10 {
				t.Errorf("%q: head %d", bad, head)
			}
			wantEpoch(t, p, now, true, false)
		}
	}
}
