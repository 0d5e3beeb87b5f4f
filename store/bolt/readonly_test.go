package bolt

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"tbhist/migrations"
	"tbhist/store"
	"tbhist/thing"
)

// reads is what DB and ReadOnly have in common.
type reads interface {
	Read(ctx context.Context, q store.Query, yield func(*thing.Update) bool) (store.Page, error)
	Latest(yield func(u *thing.Update, doc []byte) bool) error
	State() store.State
	Summary() string
}

// told is all that a history tells, in words.
func told(t *testing.T, r reads) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "%+v %s\n", r.State(), r.Summary())
	var latest []string
	if err := r.Latest(func(u *thing.Update, doc []byte) bool {
		latest = append(latest, fmt.Sprintf("%+v %s", *u, doc))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(latest)
	fmt.Fprintln(&out, strings.Join(latest, "\n"))
	var times []thing.Micros
	var names []thing.Name
	ask := func(q store.Query) {
		fmt.Fprintf(&out, "question %q %d %d\n", q.Name, q.Last, q.Limit)
		for {
			page, err := r.Read(t.Context(), q, func(u *thing.Update) bool {
				fmt.Fprintf(&out, "%s %s %d %d %d %v %s\n", u.Name, u.Data, u.Seq, u.ThingSeq, u.Received, u.TS, u.Doc)
				times = append(times, u.Received)
				names = append(names, u.Name)
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%d %v %d %v\n", page.Evicted, page.EvictedExact, page.Head, page.Limited)
			if q.Resume = page.Next; q.Resume == nil {
				return
			}
		}
	}
	ask(store.Query{Tree: true})
	if len(times) == 0 {
		return out.String()
	}
	some, later, name := times[len(times)/3], times[2*len(times)/3]+1, names[len(names)/2]
	ask(store.Query{Tree: true, Since: &some, Until: &later})
	ask(store.Query{Name: name, Since: &some, By: store.ByTS})
	ask(store.Query{Tree: true, Last: 2})
	ask(store.Query{Name: name, Last: 1})
	ask(store.Query{Name: name, Tree: true, After: r.State().Head / 2, Limit: 7})
	ask(store.Query{Name: "there.is.none", Tree: true})
	return out.String()
}

func sum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x %s %s", sha256.Sum256(b), info.ModTime(), info.Mode())
}

// What is read from a file is what a broker reads from it, and nothing in the
// file changes: of one that was closed, and of what a crash leaves before and
// after the log became a segment.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string][]store.Rule{
		"everything": nil,
		"count":      {{Limit: store.Limit{Count: 3}}},
		"bytes":      {{Limit: store.Limit{Bytes: 400}}, {Prefix: "a", Limit: store.Limit{Count: 9}}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.db")
			withRules := func(o *Options) { o.Rules = rules; o.readBudget = 4 << 10 }
			db := openTest(t, path, withRules)
			check := func(path string) {
				t.Helper()
				before := sum(t, path)
				ro, err := OpenReadOnly(path, Options{readBudget: 4 << 10})
				if err != nil {
					t.Fatal(err)
				}
				got := told(t, ro)
				second, err := OpenReadOnly(path, Options{}) // others may read
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(second.Close(), ro.Close()); err != nil {
					t.Fatal(err)
				}
				if _, err := ro.Read(t.Context(), store.Query{}, nil); !errors.Is(err, store.ErrClosed) {
					t.Errorf("a closed history is read: %v", err)
				}
				if after := sum(t, path); after != before {
					t.Errorf("the file was %s, and is %s", before, after)
				}
				copied := filepath.Join(t.TempDir(), "copied.db")
				copyFile(t, path, copied)
				again := openTest(t, copied, withRules)
				defer mustClose(t, again)
				if want := told(t, again); got != want {
					t.Errorf("a file tells\n%.4000s\na broker\n%.4000s", got, want)
				}
			}
			appendN(t, db, 0, 300)
			check(crashed(t, db))
			sealOne(t, db)
			appendN(t, db, 300, 50)
			check(crashed(t, db))
			mustClose(t, db)
			check(path)
		})
	}
}

// A file that a broker has open is not read, nor opened by a broker while it
// is read.
func TestReadOnlyLocks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	if _, err := OpenReadOnly(path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a file in use: %v", err)
	}
	mustClose(t, db)
	ro, err := OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a file that is read: %v", err)
	}
	if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, openTest(t, path))
}

// What is no history is refused and left alone; what is not there is not
// made.
func TestReadOnlyRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other, newer := filepath.Join(dir, "other.db"), filepath.Join(dir, "newer.db")
	edit(t, other, func(*bbolt.Tx) error { return nil })
	mustClose(t, openTest(t, newer))
	edit(t, newer, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyFormat, binary.BigEndian.AppendUint32(nil, migrations.Current+1))
	})
	var tooNew *migrations.NewerError
	for path, is := range map[string]func(error) bool{
		file("empty", nil):                     func(err error) bool { return errors.Is(err, store.ErrNotHistory) },
		file("text", make([]byte, 100_000)):    func(err error) bool { return errors.Is(err, store.ErrNotHistory) },
		file("short", []byte("not a history")): func(err error) bool { return errors.Is(err, store.ErrNotHistory) },
		other:                                  func(err error) bool { return errors.Is(err, store.ErrNotHistory) },
		newer:                                  func(err error) bool { return errors.As(err, &tooNew) },
		dir:                                    func(err error) bool { return errors.Is(err, syscall.EISDIR) },
		os.DevNull:                             func(err error) bool { return errors.Is(err, store.ErrNotHistory) },
		filepath.Join(dir, "there", "is", "none"): func(err error) bool { return errors.Is(err, fs.ErrNotExist) },
		filepath.Join(dir, "none"):                func(err error) bool { return errors.Is(err, fs.ErrNotExist) },
	} {
		regular := strings.HasPrefix(path, dir+"/") && filepath.Base(path) != "none"
		before := ""
		if regular {
			before = sum(t, path)
		}
		if ro, err := OpenReadOnly(path, Options{}); !is(err) {
			t.Errorf("%s: %v", path, err)
			if err == nil {
				_ = ro.Close()
			}
		}
		if regular && sum(t, path) != before {
			t.Errorf("%s was changed", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

// A file that was cut off is an error, and no end of the process.
func TestReadOnlyCutOff(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	appendN(t, db, 0, 2000)
	mustClose(t, db)
	for _, size := range []int64{4096, 8192, 12288, 20480} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		ro, err := OpenReadOnly(path, Options{})
		if err == nil {
			_, err = ro.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { return true })
			_ = ro.Close()
		}
		if err == nil {
			t.Errorf("of a file cut to %d bytes everything is read", size)
		}
	}
}
