package bolt

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"math"
	"path/filepath"
	"runtime"
	"testing"

	"go.etcd.io/bbolt"

	"tbhist/store"
	"tbhist/thing"
)

// fuzzHistory is a small history; what targets write to it is rolled back.
func fuzzHistory(f *testing.F) *DB {
	db, err := Open(filepath.Join(f.TempDir(), "history.db"), Options{MaxDB: MinMaxDB})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	for i := range 40 {
		if _, err := db.Append(f.Context(), []thing.Update{update("a", i), update("b.c", i)}); err != nil {
			f.Fatal(err)
		}
	}
	return db
}

// rolledBack runs fn in a transaction of which nothing stays.
func rolledBack(t *testing.T, db *DB, fn func(tx *bbolt.Tx)) {
	t.Helper()
	db.writing.Lock()
	defer db.writing.Unlock()
	tx, err := db.file.bolt.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	fn(tx)
}

// mustPut puts raw into the bucket as a record that nothing is wrong with.
func mustPut(t *testing.T, db *DB, tx *bbolt.Tx, bucket, key []byte, kind byte, raw []byte) {
	t.Helper()
	if err := putPieces(tx.Bucket(bucket), key, db.codecs.envelope(nil, key, kind, codecRaw, raw)); err != nil {
		t.Fatal(err)
	}
}

// recordOf gives what a record holds; nil if there is none.
func recordOf(db *DB, tx *bbolt.Tx, bucket, key []byte, kind byte) []byte {
	r := &reader{codecs: db.codecs}
	raw, _ := r.read(bucket, tx.Bucket(bucket).Cursor(), key, kind)
	return raw
}

// emptied is a start that has read nothing yet but which Things there are: as
// many as heads, none where that is 0.
func emptied(db *DB, heads ...uint64) *DB {
	d := &DB{
		o: Options{mostBuried: 1}, log: slog.New(slog.DiscardHandler), metrics: db.metrics, codecs: db.codecs,
		mostIDs: 1000, names: make(map[thing.Name]*ring), docs: docTable{ids: make(map[string]uint32), byID: [][]byte{[]byte(`"doc"`)}},
	}
	for id, head := range heads {
		var r *ring
		if head > 0 {
			r = &ring{id: uint32(id), name: thing.Name([]byte{byte('a' + id)}), head: head, next: head}
			r.fk.Store(1)
		}
		d.rings = append(d.rings, r)
	}
	return d
}

// modest runs fn and checks that it took no more memory than what it read
// allows for. Tables of spareIDs Things and URLs, which any file may have, take
// 32 MiB.
func modest(t *testing.T, read int, fn func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 48<<20+uint64(read)*200 {
		t.Errorf("%d bytes were allocated for %d", took, read)
	}
}

// FuzzAged: what age and size evicted is read or refused, holds no Thing's
// newest update, and is written as it was read.
func FuzzAged(f *testing.F) {
	db := fuzzHistory(f)
	heads := []uint64{1, 40, 0, 1 << 40, math.MaxUint64}
	f.Add([]byte{agedVersion})
	f.Add([]byte{agedVersion, 1, 7, 2, 39})
	f.Add([]byte{agedVersion, 0, 1, 2, 5, 1, 99})                                // bounds of nothing, and of no Thing
	f.Add([]byte{agedVersion, 1, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 2})   // above the head; an id that wraps around
	f.Add(binary.AppendUvarint([]byte{agedVersion, 3}, 1<<40))                   // all of it
	f.Add(binary.AppendUvarint([]byte{agedVersion, 4}, math.MaxUint64))          // likewise, as far as numbers go
	f.Add(append([]byte{agedVersion, 4}, bytes.Repeat([]byte{0xff}, 11)...))     // no number
	f.Add([]byte{agedVersion + 1, 1, 7})                                         // of a later version
	f.Add(append([]byte{agedVersion}, bytes.Repeat([]byte{1, 3, 0, 4}, 900)...)) // of several pieces
	f.Fuzz(func(t *testing.T, raw []byte) {
		rolledBack(t, db, func(tx *bbolt.Tx) {
			mustPut(t, db, tx, bucketLimits, keyAged, kindAged, raw)
			d := emptied(db, heads...)
			modest(t, len(raw), func() { d.loadAged(tx, &reader{codecs: d.codecs}) })
			for id, r := range d.rings {
				if r != nil && (r.agedOut >= r.head || r.agedOut > 0 && !r.forced) {
					t.Fatalf("Thing %d of %d updates: up to %d, %v", id, r.head, r.agedOut, r.forced)
				}
				if r != nil {
					r.fk.Store(r.agedOut + 1)
				}
			}
			d.maint.agedDirty = true
			if err := d.putAged(tx); err != nil {
				t.Fatal(err)
			}
			written := bytes.Clone(recordOf(db, tx, bucketLimits, keyAged, kindAged))
			if canonicalAged(raw, heads) && !bytes.Equal(written, raw) {
				t.Fatalf("% x became % x", raw, written)
			}
			again := emptied(db, heads...)
			again.loadAged(tx, &reader{codecs: d.codecs})
			for id, r := range again.rings {
				if r != nil && r.agedOut != d.rings[id].agedOut {
					t.Fatalf("Thing %d: up to %d, then %d", id, d.rings[id].agedOut, r.agedOut)
				}
			}
		})
	})
}

// canonicalAged tells whether this program could have written it.
func canonicalAged(raw []byte, heads []uint64) bool {
	f := fields{b: raw}
	again := []byte{agedVersion}
	if f.byte() != agedVersion {
		return false
	}
	var id uint64
	for first := true; len(f.b) > 0; first = false {
		step, fk := f.uv(), f.uv()
		if id += step; f.bad || step >= uint64(len(heads)) || id >= uint64(len(heads)) || step == 0 && !first || fk < 2 || fk > heads[id] {
			return false
		}
		again = binary.AppendUvarint(binary.AppendUvarint(again, step), fk)
	}
	return bytes.Equal(again, raw)
}

// FuzzLimits: the limits that were in force are read, whatever they say, or
// are as good as none; none of them evicts more than it says, and they are
// written as they were read.
func FuzzLimits(f *testing.F) {
	db := fuzzHistory(f)
	f.Add([]byte(`{"rules":[{"prefix":"a.b","count":5,"age_us":0,"bytes":-1},{"prefix":"","count":0,"age_us":3600000000,"bytes":1000000}]}`))
	f.Add([]byte(`{"rules":[]}`))
	f.Add([]byte(`{"rules":[{"prefix":"a","count":1},{"prefix":"a","count":2}]}`)) // which of them?
	f.Add([]byte(`{"rules":[{"prefix":"a","age_us":4611686018427387904,"count":-9223372036854775808}]}`))
	f.Add([]byte(`{"rules":[{"prefix":"a","age_us":9223372036854775},{"prefix":"","age_us":9223372036854776,"bytes":9223372036854775807}]}`))
	f.Add([]byte(`{"rules":[{"prefix":"a","age_us":-2}],"later":{}}`))
	f.Add([]byte(`{"rules":null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		rolledBack(t, db, func(tx *bbolt.Tx) {
			mustPut(t, db, tx, bucketLimits, keyLimits, kindLimits, raw)
			r := &reader{codecs: db.codecs}
			d := emptied(db, 1)
			var was *limits
			modest(t, len(raw), func() {
				var err error
				if was, err = r.loadLimits(tx); err != nil {
					t.Fatal(err)
				}
				if err := d.applyOld(was); err != nil {
					t.Fatalf("%s: %v", raw, err)
				}
			})
			rules := d.rules.All()
			if len(rules) != len(was.Rules) {
				t.Fatalf("%d rules of %d", len(rules), len(was.Rules))
			}
			for _, s := range was.Rules {
				for _, r := range rules {
					if us := r.Limit.Age.Microseconds(); r.Prefix == s.Prefix && (r.Limit.Count != s.Count || r.Limit.Bytes != s.Bytes ||
						(s.AgeUS < 0) != (r.Limit.Age == store.Unlimited) || s.AgeUS >= 0 && us != min(s.AgeUS, math.MaxInt64/1000)) {
						t.Fatalf("%+v became %+v", s, r.Limit)
					}
				}
			}
			for range 2 { // from the second time on nothing changes at all
				if err := d.putLimits(tx); err != nil {
					t.Fatal(err)
				}
				again, err := r.loadLimits(tx)
				if err != nil || !again.same(d.rules) {
					t.Fatalf("%s became %+v, %v", raw, again, err)
				}
				if err := d.applyOld(again); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

// FuzzForgotten: what is known of a forgotten Thing is read or refused; what
// is read is what would be written, and it is told of no Thing that there
// never was.
func FuzzForgotten(f *testing.F) {
	db := fuzzHistory(f)
	g := grave{id: 1, head: 40, at: 80, lost: lost{thingSeq: 40, seq: 80, received: 1e15, ts: 1e9}}
	f.Add(uint32(1), g.append(nil), uint32(1), true)
	f.Add(uint32(9), g.append(nil), uint32(1), true) // under a damaged key
	f.Add(uint32(1), g.append(nil), uint32(1), false)
	f.Add(uint32(1), []byte{0xff, 0xff, 0xff, 0xff, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0}, uint32(math.MaxUint32), true) // no such id
	g = grave{id: math.MaxUint32, head: math.MaxUint64, at: math.MaxUint64, lost: lost{math.MaxUint64, math.MaxUint64, math.MinInt64, math.Inf(1)}}
	f.Add(uint32(2), g.append(nil), uint32(2), true)
	f.Fuzz(func(t *testing.T, id uint32, value []byte, of uint32, sum bool) {
		key := idKey(id)
		stored := value
		if sum {
			stored = checkedValue(idKey(of), value)
		}
		g, ok := parseGrave(key, stored)
		if ok {
			canonical := g.append(nil)
			again, ok := parseGrave(key, checkedValue(idKey(g.id), canonical))
			if g.lost.ts != g.lost.ts { // NaN equals nothing
				g.lost.ts, again.lost.ts = 0, 0
			}
			if !ok || again != g || g.head == 0 {
				t.Fatalf("%+v became %+v, %v", g, again, ok)
			}
			if len(value) == len(canonical) && !bytes.Equal(value[4:], canonical[4:]) {
				t.Fatalf("% x became % x", value, canonical)
			}
		}
		rolledBack(t, db, func(tx *bbolt.Tx) {
			b, err := tx.CreateBucketIfNotExists(bucketForgotten)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Put(key, stored); err != nil {
				t.Fatal(err)
			}
			d := emptied(db, 3, 40, 0)
			modest(t, len(stored), func() { d.loadForgotten(tx); d.buryDead() })
			for id, r := range d.rings {
				if r != nil && r.gone() && (!ok || uint32(id) != g.id) {
					t.Fatalf("%d is forgotten, by %+v", id, g)
				}
			}
		})
	})
}

// FuzzMeta: whatever the bucket meta says, a start knows a head, an epoch and
// how many ids were given, and takes memory for no more than a file like that
// can have.
func FuzzMeta(f *testing.F) {
	db := fuzzHistory(f)
	eight := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	f.Add("ids", eight(2<<32|1), true)
	f.Add("ids", eight(math.MaxUint64), true)
	f.Add("ids", eight(math.MaxUint32), true)
	f.Add("ids", eight(math.MaxUint32<<32), true)
	f.Add("ids", eight(1), false)
	f.Add("head", eight(math.MaxUint64), true)
	f.Add("head", []byte{}, false)
	f.Add("epoch", []byte("00000001"), false)
	f.Add("epoch", []byte("0000000G"), false)
	f.Add("created", eight(math.MaxUint64), false)
	f.Add("lost", []byte{1}, false)
	f.Add("copy", eight(0), false)
	f.Add("copy", []byte{}, false)
	f.Fuzz(func(t *testing.T, key string, value []byte, sum bool) {
		if key == "" || len(key) > 1000 {
			return
		}
		if sum {
			value = sealed(bytes.Clone(value))
		}
		rolledBack(t, db, func(tx *bbolt.Tx) {
			meta := tx.Bucket(bucketMeta)
			if err := meta.Put([]byte(key), value); err != nil {
				t.Fatal(err)
			}
			d := emptied(db)
			d.docs.byID = nil
			modest(t, len(value), func() { d.loadMeta(tx) })
			if !validEpoch([]byte(d.epoch)) {
				t.Errorf("the epoch %q", d.epoch)
			}
			// What is read is what would be written.
			if key == string(keyHead) && d.head != 0 && !bytes.Equal(sealed(eight(d.head)), value) {
				t.Errorf("head %d of % x", d.head, value)
			}
			if n := uint64(len(d.rings))<<32 | uint64(len(d.docs.byID)); key == string(keyIDs) && n != 0 && !bytes.Equal(sealed(eight(n)), value) {
				t.Errorf("ids %x of % x", n, value)
			}
		})
	})
}
