package bolt

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// given yields n updates, and then wrong unless it is nil. Their bytes change
// with each step.
func given(n int, wrong error) iter.Seq2[thing.Update, error] {
	return func(yield func(thing.Update, error) bool) {
		var data []byte
		for i := range n {
			u := update(fmt.Sprintf("t%d", i%7), i)
			u.Received -= thing.Micros(i%3) * 5000 // clocks step back
			data = append(data[:0], u.Data...)
			if u.Data = data; !yield(u, nil) {
				return
			}
		}
		if wrong != nil {
			yield(thing.Update{}, wrong)
		}
	}
}

// What is imported stands behind what was there, in its order, with its times,
// under the limits of the file.
func TestImport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	const n = 3*importBatch + 5
	var told uint64
	info, err := Import(t.Context(), path, ImportOptions{Progress: func(n uint64) { told = n }}, given(n, nil))
	if err != nil {
		t.Fatal(err)
	}
	if info.Updates != n || info.First != 1 || info.Last != n || told != n {
		t.Errorf("%+v, %d told", info, told)
	}
	limited := func(o *Options) {
		o.Rules = []store.Rule{{Prefix: "t1", Limit: store.Limit{Count: 10}}, {Prefix: "t2", Limit: store.Limit{Age: store.Unlimited}}}
	}
	db := openTest(t, path, limited)
	if db.epoch != info.Epoch {
		t.Errorf("epoch %s became %s", info.Epoch, db.epoch)
	}
	varied(t, db, 0, 3)
	head := db.head
	mustClose(t, db)
	second, err := Import(t.Context(), path, ImportOptions{}, given(70, nil))
	if err != nil || second.Updates != 70 || second.First != head+1 || second.Last != head+70 || second.Epoch != info.Epoch {
		t.Errorf("%+v behind %d: %v", second, head, err)
	}
	ro, err := OpenReadOnly(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	if _, err := ro.Read(t.Context(), store.Query{Tree: true, After: head}, func(u *thing.Update) bool {
		w := update(fmt.Sprintf("t%d", i%7), i)
		w.Received -= thing.Micros(i%3) * 5000
		if u.Name != w.Name || string(u.Data) != string(w.Data) || u.TS != w.TS || u.Received != w.Received || u.Seq != head+1+uint64(i) {
			t.Errorf("update %d is %+v, want %+v", i, u, w)
		}
		i++
		return true
	}); err != nil || i != 70 {
		t.Errorf("%d updates: %v", i, err)
	}
	for name, want := range map[thing.Name]int{"t1": 10, "t2": n/7 + 1 + 10} {
		got := 0
		if _, err := ro.Read(t.Context(), store.Query{Name: name}, func(*thing.Update) bool { got++; return true }); err != nil || got != want {
			t.Errorf("%d updates of %s, want %d: %v", got, name, want, err)
		}
	}
	if err := ro.Close(); err != nil {
		t.Error(err)
	}
	db = openTest(t, path, limited)
	if l, _ := db.rules.For("t2"); len(db.rules.All()) != 2 || l.Age != 0 {
		t.Errorf("the limits became %+v", db.rules.All())
	}
	mustClose(t, db)
}

// What ends an import leaves what came before it.
func TestImportEnds(t *testing.T) {
	t.Parallel()
	broken := errors.New("line 12: not an update")
	for what, c := range map[string]struct {
		updates iter.Seq2[thing.Update, error]
		is      func(error) bool
	}{
		"a bad line": {given(12, broken), func(err error) bool { return errors.Is(err, broken) }},
		"a bad name": {with(12, thing.Update{Name: "A b", Data: []byte("1")}), says("namespace")},
		"no data":    {with(12, thing.Update{Name: "a"}), says("no data")},
		"no time":    {with(12, thing.Update{Name: "a", Data: []byte("1"), TS: math.NaN()}), says("ts is NaN")},
	} {
		path := filepath.Join(t.TempDir(), "history.db")
		info, err := Import(t.Context(), path, ImportOptions{}, c.updates)
		if !c.is(err) || info.Updates != 12 || info.Last != 12 {
			t.Errorf("%s: %+v %v", what, info, err)
		}
		if got := heldBy(t, path); len(got) != 1+7+12 {
			t.Errorf("%s: %q", what, got)
		}
	}
	path := filepath.Join(t.TempDir(), "history.db")
	ctx, cancel := context.WithCancel(t.Context())
	info, err := Import(ctx, path, ImportOptions{Progress: func(uint64) { cancel() }}, given(5*importBatch, nil))
	if !errors.Is(err, context.Canceled) || info.Updates != importBatch {
		t.Errorf("cancelled: %+v %v", info, err)
	}
	db := openTest(t, path)
	if db.head != importBatch {
		t.Errorf("head %d after %d", db.head, importBatch)
	}
	if _, err := Import(t.Context(), path, ImportOptions{}, given(1, nil)); !errors.Is(err, store.ErrLocked) {
		t.Errorf("into a file in use: %v", err)
	}
	mustClose(t, db)
	if _, err := Import(t.Context(), t.TempDir(), ImportOptions{}, given(1, nil)); err == nil {
		t.Error("into a folder")
	}
}

func with(n int, bad thing.Update) iter.Seq2[thing.Update, error] {
	return func(yield func(thing.Update, error) bool) {
		for u, err := range given(n, nil) {
			if !yield(u, err) {
				return
			}
		}
		yield(bad, nil)
	}
}

func says(what string) func(error) bool {
	return func(err error) bool { return err != nil && strings.Contains(err.Error(), what) }
}

// What a copy gets makes it another history.
func TestImportIntoCopy(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	varied(t, db, 0, 5)
	path := restored(t, backupOf(t, db, nil))
	info, err := Import(t.Context(), path, ImportOptions{}, given(3, nil))
	if err != nil || info.Epoch == db.epoch || info.First != db.head+1 {
		t.Errorf("%+v into a copy of %s: %v", info, db.epoch, err)
	}
	mustClose(t, db)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
