package bolt

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"tbhist/store"
	"tbhist/thing"
)

// A batch that cannot fit even an empty file evicts nothing, and holds back
// nobody else's.
func TestBatchTooLarge(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) { o.MaxDB = MinMaxDB })
	defer mustClose(t, db)
	appendMany(t, db, 0, 500)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	data := fmt.Appendf(nil, "%q", noise(1, 1<<20))
	batch := make([]thing.Update, 48)
	for i := range batch {
		batch[i] = update("large", i)
		batch[i].Data = data
	}
	if _, err := db.Append(t.Context(), batch); !errors.Is(err, store.ErrNotKept) {
		t.Errorf("%v, want ErrNotKept", err)
	}
	upkeep(t, db, db.round)
	if s := db.State(); s.Updates != 1000 || s.Head != 1000 {
		t.Errorf("of 1000 updates there are %+v", s)
	}
	appendMany(t, db, 500, 1)
}
