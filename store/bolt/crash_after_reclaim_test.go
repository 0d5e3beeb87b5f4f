package bolt

import (
	"path/filepath"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// What goes from the file behind a checkpoint is known to be gone after a
// crash, though nothing came in since.
func TestCrashAfterReclaim(t *testing.T) {
	const n, ring = 10 * 8192, 40_000
	limited := func(o *Options) { o.Rules = []store.Rule{{Limit: store.Limit{Count: ring}}} }
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), limited)
	defer mustClose(t, db)
	batch := make([]thing.Update, 8192)
	db.maintaining.Lock()
	defer db.maintaining.Unlock()
	for at := 0; at < n; at += len(batch) {
		for i := range batch {
			batch[i] = update("a", at+i)
		}
		if _, err := db.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		if db.logDue() {
			if _, err := db.seal(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.settleAll(); err != nil {
		t.Fatal(err)
	}
	if err := db.round(); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, crashedHeld(t, db), limited)
	defer mustClose(t, again)
	for i, d := range []*DB{db, again} {
		page, err := d.Read(t.Context(), store.Query{Name: "a", After: 10}, func(*thing.Update) bool { return true })
		if err != nil || page.Evicted < n-ring-10 || page.Head != n {
			t.Errorf("%d: head %d, %d are evicted (exact %v), %v; want %d", i, page.Head, page.Evicted, page.EvictedExact, err, n-ring-10)
		}
	}
}
