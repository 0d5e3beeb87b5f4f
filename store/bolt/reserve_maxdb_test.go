package bolt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// A file as large as MaxDB, of which nothing may be evicted, refuses while its
// reserve is there: what is given back by hand can all be used again.
func TestReserveAtMaxDB(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	small := func(o *Options) { o.MaxDB = MinMaxDB }
	db := openTest(t, path, small, refusing)
	rnd := rand.New(rand.NewPCG(7, 7))
	n := 0
	newest := func() []thing.Update {
		batch := make([]thing.Update, 200)
		for i := range batch {
			data := make([]byte, 4000)
			for j := range data {
				data[j] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[rnd.IntN(64)]
			}
			batch[i] = update(fmt.Sprintf("newest.t%d", n), n)
			batch[i].Data = fmt.Appendf(nil, `"%s"`, data)
			n++
		}
		return batch
	}
	var err error
	for err == nil {
		_, err = db.Append(t.Context(), newest())
	}
	if !errors.Is(err, store.ErrNotKept) {
		t.Fatalf("Append to a file that may not grow: %v", err)
	}
	if left := db.pagesLeft(); left < reservePages {
		t.Errorf("%d pages are left, want %d in reserve", left, reservePages)
	}
	// After a start there is room for a checkpoint and segments all the same.
	mustClose(t, db)
	db = openTest(t, path, small)
	defer mustClose(t, db)
	if got, err := db.Forget(t.Context(), "newest", true, false); err != nil || got.Things == 0 {
		t.Fatalf("Forget gives %d Things, %v", got.Things, err)
	}
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := db.Append(t.Context(), newest()); err != nil {
			t.Fatal(err)
		}
	}
	if size := db.fileStats().size; size > MinMaxDB {
		t.Errorf("the file has %d bytes, %d at most were allowed", size, MinMaxDB)
	}
}
