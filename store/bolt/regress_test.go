package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/store"
	"tbhist/thing"
)

// wantIndexed checks that each segment's index says where its blocks have
// which update.
func wantIndexed(t *testing.T, db *DB) {
	t.Helper()
	type which struct {
		id       uint32
		thingSeq uint64
	}
	if err := db.view(func(s *snapshot) error {
		for _, seg := range s.segs {
			if seg.count == 0 {
				continue
			}
			said := make(map[which]uint32)
			var e chunkEntry
			if err := s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool {
				for i := range e.blocks {
					said[which{e.id, e.first + uint64(i)}] = e.blocks[i]
				}
				return true
			}); err != nil {
				return err
			}
			table, err := s.loadBlocks(s.tx, seg, nil)
			if err != nil {
				return err
			}
			c := s.tx.Bucket(bucketBlocks).Cursor()
			for no := range table {
				es, err := s.readBlock(c, seg, no, table[no], nil)
				if err != nil {
					return err
				}
				for _, e := range es {
					if b, ok := said[which{e.id, e.thingSeq}]; !ok || b != uint32(no) {
						return fmt.Errorf("the segment from %d has thing_seq %d of Thing %d in block %d, its index says %d (%v)", seg.first, e.thingSeq, e.id, no, b, ok)
					}
				}
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// edit changes the file of a closed history.
func edit(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Update(fn), b.Close()); err != nil {
		t.Fatal(err)
	}
}

// spoil damages the first piece of a record.
func spoil(bucket, key []byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		k := append(bytes.Clone(key), 0, 0)
		v := bytes.Clone(b.Get(k))
		v[len(v)-1] ^= 4
		return b.Put(k, v)
	}
}

// upkeep does a part of the background work, whose lock it takes.
func upkeep(t *testing.T, db *DB, part func() error) {
	t.Helper()
	db.maintaining.Lock()
	defer db.maintaining.Unlock()
	if err := part(); err != nil {
		t.Fatal(err)
	}
}

// sealOne makes one segment of the log.
func sealOne(t *testing.T, db *DB) {
	t.Helper()
	upkeep(t, db, func() error {
		more, err := db.seal()
		if !more && err == nil {
			err = errors.New("there is nothing to make a segment of")
		}
		return err
	})
}

// crashed gives the file as a crash would leave it now. The background work
// waits for the copy: of one made over several transactions a page may be of
// each.
func crashed(t *testing.T, db *DB) string {
	t.Helper()
	db.maintaining.Lock()
	defer db.maintaining.Unlock()
	return crashedHeld(t, db)
}

// crashedHeld is crashed for whoever keeps the background work waiting.
func crashedHeld(t *testing.T, db *DB) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "crashed.db")
	copyFile(t, db.path, to)
	return to
}

func mustClose(t *testing.T, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// recent is an update stamped by a clock that was set.
func recent(name string, n int) thing.Update {
	u := update(name, n)
	u.Received += 7e14
	return u
}

// Limits move while a segment is written: its index stays true.
func TestIndexWhileLimitsMove(t *testing.T) {
	t.Parallel()
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) {
		o.Rules = []store.Rule{{Limit: store.Limit{Count: 100}}}
	})
	defer mustClose(t, db)
	w := newWorkload(100, 1000)
	for w.n < 400_000 && !t.Failed() {
		if _, err := db.Append(t.Context(), w.next()); err != nil {
			t.Fatal(err)
		}
		if w.n%40_000 == 0 {
			wantIndexed(t, db)
		}
	}
}

// A part of a limit that is without bound stays so over a start.
func TestUnlimitedAgeOverAStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	open := func() *DB {
		return openTest(t, path, func(o *Options) {
			o.TrustClock, o.Now = true, func() time.Time { return time.UnixMicro(1.8e15) }
			o.Rules = []store.Rule{{Limit: store.Limit{Age: time.Hour}}, {Prefix: "a", Limit: store.Limit{Age: store.Unlimited}}}
		})
	}
	db := open()
	for i := range 5 {
		if _, err := db.Append(t.Context(), []thing.Update{recent("a", i)}); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, db)
	db = open()
	defer mustClose(t, db)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	if n := db.State().Updates; n != 5 {
		t.Errorf("%d updates are kept, want 5", n)
	}
}

// A Thing whose only update is lost begins anew; that stays over a start.
func TestThingThatBeganAnew(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	appendN(t, db, 0, 2)
	if _, err := db.Append(t.Context(), []thing.Update{update("x", 1)}); err != nil {
		t.Fatal(err)
	}
	path := crashed(t, db)
	mustClose(t, db)
	edit(t, path, spoil(bucketLog, seqKey(5)))
	for want := uint64(1); want <= 3; want++ {
		db = openTest(t, path)
		got, err := db.Append(t.Context(), []thing.Update{update("x", 2)})
		if err != nil || got[0].ThingSeq != want {
			t.Errorf("%+v, %v; want thing_seq %d", got, err, want)
		}
		mustClose(t, db)
	}
}

// One that is damaged takes no more with it than itself, neither at the start
// nor with the upkeep that follows.
func TestDamagedLogRecord(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	appendN(t, db, 0, 100)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	appendN(t, db, 100, 5)
	path := crashed(t, db)
	mustClose(t, db)
	edit(t, path, spoil(bucketLog, seqKey(203)))
	now := time.UnixMicro(1.7e15)
	db = openTest(t, path, func(o *Options) {
		o.lazyAge, o.TrustClock, o.Now = true, true, func() time.Time { return now }
		o.Rules = []store.Rule{{Limit: store.Limit{Age: time.Hour}}}
	})
	defer mustClose(t, db)
	if _, err := db.Append(t.Context(), []thing.Update{recent("a", 105), recent("b.c", 105)}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n := 0
		if _, err := db.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { n++; return true }); err != nil || n != 210 {
			t.Errorf("%d updates, %v; want all but two of 212", n, err)
		}
		upkeep(t, db, func() error {
			if _, err := db.seal(); err != nil {
				return err
			}
			return db.rewrite(db.segments())
		})
		wantIndexed(t, db)
	}
	now = now.Add(3 * time.Hour)
	if _, err := db.Append(t.Context(), []thing.Update{recent("a", 106), recent("b.c", 106)}); err != nil {
		t.Fatal(err)
	}
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	if n := db.State().Updates; n != 2 {
		t.Errorf("age left %d updates, want the newest of two Things", n)
	}
}

// A segment in the place of one whose head was lost has nothing of its index.
func TestDamagedHead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	w := newWorkload(1000, 1000)
	for range 3 {
		if _, err := db.Append(t.Context(), w.next()); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, db)
	edit(t, path, spoil(bucketHeads, seqKey(1)))
	db = openTest(t, path)
	defer mustClose(t, db)
	if _, err := db.Append(t.Context(), []thing.Update{update("new", 1)}); err != nil {
		t.Fatal(err)
	}
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	wantIndexed(t, db)
	for _, seg := range db.segments() {
		n := 0
		if err := db.view(func(s *snapshot) error {
			var e chunkEntry
			return s.eachIndexed(s.tx, seg, nil, &e, func(e *chunkEntry) bool { n += len(e.blocks); return true })
		}); err != nil || n != seg.count {
			t.Errorf("the index of %d updates has %d, %v", seg.count, n, err)
		}
	}
}

// A bit of a Thing's id that flips asks for no room for as many Things.
func TestDamagedThingID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	db := openTest(t, path)
	appendN(t, db, 0, 2)
	mustClose(t, db)
	edit(t, path, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketThings)
		name := bytes.Clone(b.Get(idKey(1)))
		return errors.Join(b.Delete(idKey(1)), b.Put(idKey(1|1<<24), name))
	})
	db = openTest(t, path)
	defer mustClose(t, db)
	if len(db.rings) != 2 {
		t.Errorf("room for %d Things, want 2", len(db.rings))
	}
}

// What age evicted from the log is not looked for after a crash.
func TestCrashAfterAgeEvicted(t *testing.T) {
	now := time.UnixMicro(1.7e15 + 25_000)
	aged := func(o *Options) {
		o.TrustClock, o.Now, o.lazyAge = true, func() time.Time { return now }, true
		o.Rules = []store.Rule{{Limit: store.Limit{Age: time.Hour}}}
	}
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), aged)
	db.maintaining.Lock()
	for i := range 50 {
		if _, err := db.Append(t.Context(), []thing.Update{recent("a", i), recent("b", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.checkpoint(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	db.maint.agedSaved = time.Now() // a moment ago
	if err := db.ageOut(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.seal(); err != nil {
		t.Fatal(err)
	}
	kept, path := db.State().Updates, crashedHeld(t, db)
	db.maintaining.Unlock()
	mustClose(t, db)

	db = openTest(t, path, aged)
	defer mustClose(t, db)
	if n := db.State().Updates; n != kept || n != 50 {
		t.Errorf("%d updates are kept after a crash, %d before, want 50", n, kept)
	}
	now = now.Add(time.Hour)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	if n := db.State().Updates; n != 2 {
		t.Errorf("age left %d updates, want the newest of two Things", n)
	}
}

// What a byte limit evicted, and the upkeep gave back, after the checkpoint
// that a start finds: the limit holds to the byte.
func TestCrashAfterBytesEvicted(t *testing.T) {
	byBytes := func(o *Options) { o.Rules = []store.Rule{{Limit: store.Limit{Bytes: 5000}}} }
	rnd := rand.New(rand.NewPCG(1, 2))
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), byBytes)
	add := func(n int) {
		for range n {
			u := update("a", 1)
			u.Data = bytes.Repeat([]byte{'1'}, 1+rnd.IntN(300))
			if _, err := db.Append(t.Context(), []thing.Update{u}); err != nil {
				t.Fatal(err)
			}
		}
	}
	seal := func() {
		if _, err := db.seal(); err != nil {
			t.Fatal(err)
		}
	}
	db.maintaining.Lock()
	add(100)
	seal()
	if err := db.checkpoint(); err != nil {
		t.Fatal(err)
	}
	add(20)
	seal()
	if err := db.rewrite(db.segments()); err != nil {
		t.Fatal(err)
	}
	add(7)
	kept, size, path := db.State().Updates, db.rings[0].bytes, crashedHeld(t, db)
	db.maintaining.Unlock()
	mustClose(t, db)
	db = openTest(t, path, byBytes)
	defer mustClose(t, db)
	if n, got := db.State().Updates, db.rings[0].bytes; n != kept || got != size {
		t.Errorf("%d updates of %d bytes are kept after a crash, %d of %d before", n, got, kept, size)
	}
}

// Close while an Append waits for room.
func TestCloseWhileAppendWaits(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	db.maintaining.Lock() // background work that is behind
	db.mu.Lock()
	db.logged.count += 2 * segmentTarget
	db.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		_, err := db.Append(t.Context(), []thing.Update{update("a", 1)})
		ended <- err
	}()
	for db.appending.TryLock() { // until Append holds it
		db.appending.Unlock()
	}
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	if err := <-ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("Append: %v, want ErrClosed", err)
	}
	db.mu.Lock()
	db.logged.count -= 2 * segmentTarget
	db.mu.Unlock()
	db.maintaining.Unlock()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// Pages that the budget ends go on, whatever it went for.
func TestBudgetProgress(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) {
		o.readBudget = 1
		o.Rules = []store.Rule{{Limit: store.Limit{Count: 300}}}
	})
	defer mustClose(t, db)
	since := thing.Micros(1e15)
	for i := range 5 {
		appendN(t, db, i*100, 100)
		sealOne(t, db)
	}
	for i := range 3 {
		if _, err := db.Append(t.Context(), []thing.Update{update("late", i), update("later", i)}); err != nil {
			t.Fatal(err)
		}
	}
	sealOne(t, db)
	for name, q := range map[string]store.Query{
		"late": {Name: "late"}, "tree": {Tree: true}, "since": {Tree: true, Since: &since}, "last": {Tree: true, Last: 2, Since: &since},
	} {
		want := map[string]int{"late": 3, "tree": 606, "since": 606, "last": 8}[name]
		q.UpTo = db.State().Head
		got := 0
		for pages := 0; ; pages++ {
			page, err := db.Read(t.Context(), q, func(*thing.Update) bool { got++; return true })
			if err != nil || pages > 60 {
				t.Fatalf("%s: page %d: %v", name, pages, err)
			}
			if page.Next == nil {
				break
			}
			q.Resume = page.Next
			// More is evicted between any two pages.
			if _, err := db.Append(t.Context(), []thing.Update{update("b.c", pages)}); err != nil {
				t.Fatal(err)
			}
		}
		// What is evicted on the way is not missed by the page that passed it.
		if got > want || got < want-60 || (name == "late" && got != want) {
			t.Errorf("%s: %d updates, want %d", name, got, want)
		}
	}
}

// A position that was made up asks for no more memory than a true one.
func TestForgedPosition(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer mustClose(t, db)
	appendN(t, db, 0, 10)
	for _, from := range []map[uint32]uint64{{0: 1, 1: 1}, {2: 1}, {1 << 31: 1}} {
		p := position{after: 1, upTo: 5, from: from}
		if _, ok := parsePosition(p.append(db.epoch), db.epoch, 2); ok != (len(from) == 2) {
			t.Errorf("%v taken: %v", from, ok)
		}
	}
	many := position{upTo: 5, from: make(map[uint32]uint64)}
	for id := range uint32(100_000) {
		many.from[id] = 1
	}
	if _, err := db.Read(t.Context(), store.Query{Tree: true, Last: 1, Resume: many.append(db.epoch)},
		func(*thing.Update) bool { return true }); !errors.Is(err, store.ErrBadResume) {
		t.Errorf("%v, want ErrBadResume", err)
	}
}

// Between a short limit and a long one lies most of a history: a look at what
// is too old passes it over.
func TestAgeLooksAtLittle(t *testing.T) {
	now := time.UnixMicro(1.7e15)
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"), func(o *Options) {
		o.TrustClock, o.Now, o.lazyAge = true, func() time.Time { return now }, true
		o.Rules = []store.Rule{{Limit: store.Limit{Age: 1000 * time.Hour}}, {Prefix: "a", Limit: store.Limit{Age: time.Hour}}}
	})
	defer mustClose(t, db)
	db.maintaining.Lock() // segments that it joins are read anew
	defer db.maintaining.Unlock()
	for i := range 4 {
		for k := range 300 {
			if _, err := db.Append(t.Context(), []thing.Update{recent("a", i*300+k), recent("b", i*300+k)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.seal(); err != nil {
			t.Fatal(err)
		}
	}
	look := func(at time.Duration) (read int64) {
		t.Helper()
		p := newAgePass(now.Add(at), db.ages())
		if err := db.viewWith(true, func(s *snapshot) error {
			err := p.run(s)
			read = s.bytes
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return read
	}
	now = now.Add(10 * time.Hour)
	for range 2 {
		if err := db.ageOut(); err != nil {
			t.Fatal(err)
		}
	}
	if n := db.State().Updates; n != 1201 {
		t.Errorf("%d updates are kept, want all of one Thing and the newest of the other", n)
	}
	look(0)
	if read := look(0); read > 20_000 {
		t.Errorf("a second look read %d bytes", read)
	}
	now = now.Add(1000 * time.Hour)
	if err := db.ageOut(); err != nil {
		t.Fatal(err)
	}
	if n := db.State().Updates; n != 2 {
		t.Errorf("%d updates are kept, want the newest of two Things", n)
	}
}

// A checkpoint in the place of one of the same seq leaves one of them whole.
func TestCheckpointOfSameSeq(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer mustClose(t, db)
	appendN(t, db, 0, 10)
	for range 3 {
		if err := db.Maintain(); err != nil {
			t.Fatal(err)
		}
		again := openTest(t, crashed(t, db))
		if again.maint.checkpointAt != 20 {
			t.Errorf("checkpoint found at %d", again.maint.checkpointAt)
		}
		wantWhole(t, again, 20)
		mustClose(t, again)
	}
}

// Whoever waits no more for an answer that takes long walks gets none.
func TestLongWalksEnd(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "history.db"))
	defer mustClose(t, db)
	appendN(t, db, 0, 100)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	err := db.view(func(s *snapshot) error {
		s.stop = func() error { return gone }
		_, err := s.lastBy(s.rings, 2e15)
		return errors.Join(err, s.locate(map[uint32]uint64{0: 1}, nil, func(*entry) {}))
	})
	if !errors.Is(err, gone) {
		t.Errorf("%v, want the reason to stop", err)
	}
}
