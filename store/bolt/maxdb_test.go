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

// Things that are alike make room for one another.
func TestMaxDBOfEqualThings(t *testing.T) {
	t.Parallel()
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) { o.MaxDB = MinMaxDB })
	defer mustClose(t, db)
	rnd := rand.NewChaCha8([32]byte{})
	for n := range 400 {
		var batch []thing.Update
		for i := range 100 {
			u := update(fmt.Sprintf("t%d", i), n)
			u.Data = make([]byte, 2500)
			_, _ = rnd.Read(u.Data)
			batch = append(batch, u)
		}
		if _, err := db.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	// In fewer rounds than there are updates to go, and no more than have to.
	if used := db.usedBytes(); used > fullAbove.bytes(db)+db.segmentBytes() || used < MinMaxDB/2 {
		t.Errorf("%d bytes are in use of %d", used, MinMaxDB)
	}
}

// A file that the newest updates alone fill: the input is told, not held back
// for ever, and Close waits for nobody.
func TestFullOfNewest(t *testing.T) {
	t.Parallel()
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), refusing, func(o *Options) { o.MaxDB = MinMaxDB })
	rnd := rand.NewChaCha8([32]byte{})
	for n := 0; ; n++ {
		var batch []thing.Update
		for i := range 100 {
			u := update(fmt.Sprintf("t%d", n*100+i), n)
			u.Data = make([]byte, 4000)
			_, _ = rnd.Read(u.Data)
			batch = append(batch, u)
		}
		if _, err := db.Append(t.Context(), batch); errors.Is(err, store.ErrNotKept) {
			break
		} else if err != nil || n > 1000 {
			t.Fatal(n, err)
		}
	}
	_ = db.Close() // says that the log could not become a segment
}
