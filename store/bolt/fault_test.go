package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"tbhist/migrations"
	"tbhist/store"
	"tbhist/thing"
)

// openTest opens a history whose batches are to be kept, however long that
// takes on a busy machine.
func openTest(t *testing.T, path string, change ...func(*Options)) *DB {
	t.Helper()
	o := Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Grace: time.Minute}
	for _, c := range change {
		c(&o)
	}
	db, err := Open(path, o)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return db
}

// refusing is for a history of which it is seen that a disk refuses.
func refusing(o *Options) { o.Grace = 50 * time.Millisecond }

func update(name string, n int) thing.Update {
	return thing.Update{
		Name: thing.Name(name), Data: fmt.Appendf(nil, `{"n":%d}`, n), TS: 1e9 + float64(n),
		Received: thing.Micros(1e15) + thing.Micros(n)*1000, Doc: []byte(`"http://example.org/doc"`),
	}
}

func appendN(t *testing.T, db *DB, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if _, err := db.Append(t.Context(), []thing.Update{update("a", i), update("b.c", i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// wantWhole checks that history holds seq 1 to head without hole or double.
func wantWhole(t *testing.T, db *DB, head uint64) {
	t.Helper()
	next := uint64(1)
	page, err := db.Read(t.Context(), store.Query{Tree: true}, func(u *thing.Update) bool {
		if u.Seq != next || u.ThingSeq != (next+1)/2 {
			t.Errorf("seq %d thing_seq %d where seq %d was due", u.Seq, u.ThingSeq, next)
		}
		next = u.Seq + 1
		return true
	})
	if err != nil || page.Head != head || next != head+1 || page.Evicted != 0 {
		t.Errorf("read up to %d of head %d (%d evicted), %v; want head %d", next-1, page.Head, page.Evicted, err, head)
	}
}

// A copy of the file of a running history is what a crash leaves.
func TestCrash(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer func() { _ = db.Close() }()
	check := func(head uint64) {
		t.Helper()
		again := openTest(t, crashed(t, db))
		wantWhole(t, again, head)
		appendN(t, again, int(head)/2, 3)
		wantWhole(t, again, head+6)
		if again.State().Epoch != db.State().Epoch {
			t.Error("a crash made another epoch")
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	check(0)
	appendN(t, db, 0, 50)
	check(100)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	check(100)
	appendN(t, db, 50, 50)
	check(200)
	sealOne(t, db)
	check(200) // a segment behind the checkpoint
	appendN(t, db, 100, 1)
	check(202)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// A commit whose outcome is unknown is undone, whether or not it reached the
// file, and made again.
func TestCommitThatMayHaveHappened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	defer func() { _ = db.Close() }()
	appendN(t, db, 0, 5)
	for i := 5; i < 8; i++ {
		// What a failed second sync leaves: the transaction is in the file,
		// and nobody knows.
		db.writing.Lock()
		synced := db.file.synced
		err := db.file.bolt.Update(func(tx *bbolt.Tx) error {
			return putPieces(tx.Bucket(bucketLog), seqKey(db.head+1), []byte("never was"))
		})
		if err != nil {
			t.Fatal(err)
		}
		db.mending.look = true
		if err := db.reopen(false); err != nil {
			t.Fatal(err)
		}
		if db.file.synced != synced {
			t.Errorf("opened at transaction %d, want %d", db.file.synced, synced)
		}
		db.writing.Unlock()
		wantWhole(t, db, uint64(2*i))
		appendN(t, db, i, 1)
		wantWhole(t, db, uint64(2*i+2))
	}
}

// A disk that refuses for longer than the grace: nothing of the batch is
// kept, the numbers are given to the next, and it comes back by itself.
func TestRefusingDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "history.db")
	db := openTest(t, path, refusing)
	defer func() { _ = db.Close() }()
	appendN(t, db, 0, 5)

	// The file is taken away under the engine: it can be written no more,
	// nor opened again.
	db.writing.Lock()
	db.layout.Lock()
	if err := db.file.close(); err != nil {
		t.Fatal(err)
	}
	db.lastSynced, db.file = db.file.synced, nil
	db.layout.Unlock()
	db.writing.Unlock()
	away := filepath.Join(dir, "away.db")
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	batch := []thing.Update{update("a", 99), update("new", 1)}
	if _, err := db.Append(t.Context(), batch); !errors.Is(err, store.ErrNotKept) {
		t.Fatalf("Append: %v, want ErrNotKept", err)
	}
	if batch[0].Seq != 0 || batch[1].ThingSeq != 0 {
		t.Errorf("numbers %d, %d on updates that were not kept", batch[0].Seq, batch[1].ThingSeq)
	}
	s := db.State()
	if s.Degraded == "" || s.Head != 10 || s.Things != 2 {
		t.Errorf("state %+v while the disk refuses", s)
	}
	if _, err := db.Append(t.Context(), batch); !errors.Is(err, store.ErrNotKept) {
		t.Errorf("Append right after: %v, want ErrNotKept at once", err)
	}
	if err := os.Rename(away, path); err != nil {
		t.Fatal(err)
	}
	for {
		got, err := db.Append(t.Context(), []thing.Update{update("a", 5), update("b.c", 5)})
		if err == nil {
			if got[0].Seq != 11 || got[0].ThingSeq != 6 {
				t.Errorf("seq %d thing_seq %d after it, want 11, 6", got[0].Seq, got[0].ThingSeq)
			}
			break
		}
		if !errors.Is(err, store.ErrNotKept) {
			t.Fatal(err)
		}
	}
	if s := db.State(); s.Degraded != "" {
		t.Errorf("still degraded: %s", s.Degraded)
	}
	wantWhole(t, db, 12)
}

// A file that could not be opened again while the log is full is opened by the
// background work: no commit comes that would.
func TestFileAwayWhileLogIsFull(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer mustClose(t, db)
	batch := make([]thing.Update, 8192)
	for i := range batch {
		batch[i] = update("a", i)
	}
	db.maintaining.Lock()
	for !db.logFull() {
		if _, err := db.Append(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	db.writing.Lock()
	db.layout.Lock()
	err := db.file.close()
	db.lastSynced, db.file = db.file.synced, nil
	db.layout.Unlock()
	db.writing.Unlock()
	db.maintaining.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Append(t.Context(), batch); err != nil {
		t.Error(err)
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	defer func() { _ = db.Close() }()
	if _, err := Open(path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second Open: %v, want ErrLocked", err)
	}
}

func TestNotAHistory(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	content := make([]byte, 20000)
	copy(content, "these are my notes, and nobody else's")
	if err := os.WriteFile(text, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(text, Options{}); !errors.Is(err, store.ErrNotHistory) {
		t.Errorf("Open of a text: %v, want ErrNotHistory", err)
	}
	if now, err := os.ReadFile(text); err != nil || string(now) != string(content) {
		t.Error("the text was changed")
	}

	other := filepath.Join(dir, "other.db")
	b, err := bbolt.Open(other, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err }); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(other, Options{}); !errors.Is(err, store.ErrNotHistory) {
		t.Errorf("Open of another program's database: %v, want ErrNotHistory", err)
	}
}

func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	appendN(t, db, 0, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte{0, 0, 0, 2}) })
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	var newer *migrations.NewerError
	if _, err := Open(path, Options{}); !errors.As(err, &newer) || newer.Found != 2 {
		t.Errorf("Open: %v, want a NewerError of 2", err)
	}
}

// A damaged record is set aside and counted; what is whole is served.
func TestDamagedBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	appendN(t, db, 0, 500)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(func(tx *bbolt.Tx) error {
		blocks := tx.Bucket(bucketBlocks)
		key := append(subKey(1, 2), 0, 0)
		value := append([]byte(nil), blocks.Get(key)...)
		value[len(value)/2] ^= 4
		return blocks.Put(key, value)
	})
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, path)
	defer func() { _ = db.Close() }()
	count := 0
	page, err := db.Read(context.Background(), store.Query{Tree: true}, func(*thing.Update) bool { count++; return true })
	if err != nil || count != 1000-blockUpdates || page.Evicted != blockUpdates {
		t.Errorf("%d updates, %d missing, %v; want all but one block of %d", count, page.Evicted, err, blockUpdates)
	}
}

// A commit that waits for room does not wait for a history that closes, nor
// where there is enough that is of no use.
func TestCommitWaitsForNobody(t *testing.T) {
	for name, closing := range map[string]bool{"closing": true, "in pieces": false} {
		db := openTest(t, filepath.Join(t.TempDir(), "history.db"), refusing)
		if closing {
			close(db.closing)
			<-db.finished
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		db.appending.Lock()
		err := db.commit(ctx, true, func(*bbolt.Tx) error {
			if closing {
				db.space.left.Store(1)
			}
			return berrors.ErrMaxSizeReached
		})
		db.appending.Unlock()
		cancel()
		if !errors.Is(err, store.ErrNotKept) {
			t.Errorf("%s: %v", name, err)
		}
		if closing {
			db.closing = make(chan struct{}) // for Close
		}
		mustClose(t, db)
	}
}
