package bolt

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tbhist/store"
	"tbhist/thing"
)

// FuzzRecord: an envelope is unpacked or refused, whatever it says.
func FuzzRecord(f *testing.F) {
	codecs, err := newCodecs()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(codecs.close)
	key := seqKey(7)
	for codec := range byte(3) {
		f.Add(codecs.envelope(nil, key, kindBatch, codec, bytes.Repeat([]byte("abc"), 50)), false)
	}
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, record []byte, seal bool) {
		if seal && len(record) >= envelopeBytes && len(record) < 1<<16 {
			// With a checksum that matches, what it guards is looked at too. Only
			// this program makes those: none announces more than it can have.
			record = bytes.Clone(record)
			record[8], record[9] = 0, 0
			total, err := storedLength(record)
			if err != nil || total != len(record) {
				return
			}
			sum := recordSum(key, record)
			record[12], record[13], record[14], record[15] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		r := &reader{codecs: codecs}
		if raw, err := r.unpack(bucketLog, key, record); err == nil && len(raw) > maxRaw {
			t.Errorf("%d bytes", len(raw))
		}
	})
}

// FuzzBatch: what is read of a batch is what would be written.
func FuzzBatch(f *testing.F) {
	for _, n := range []int{1, 5} {
		f.Add(appendBatch(nil, fuzzEntries(n)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		es, err := decodeBatch(raw, nil)
		if err != nil {
			return
		}
		again, err := decodeBatch(appendBatch(nil, es), nil)
		if err != nil || len(again) != len(es) {
			t.Fatalf("%d updates, then %d, %v", len(es), len(again), err)
		}
		for i := range es {
			a, b := &es[i], &again[i]
			if a.seq != b.seq || a.thingSeq != b.thingSeq || a.id != b.id || a.received != b.received ||
				a.doc != b.doc || !bytes.Equal(a.data, b.data) || !bytes.Equal(a.inline, b.inline) {
				t.Fatalf("%+v became %+v", *a, *b)
			}
		}
	})
}

func fuzzEntries(n int) []entry {
	var es []entry
	for i := range n {
		e := entry{
			seq: uint64(10 + 2*i), thingSeq: uint64(3 + i), id: uint32(i % 3), received: thing.Micros(1.8e15) + thing.Micros(i),
			ts: 1.8e9 + float64(i)/7, data: []byte(`{"n":1}`), doc: docIDs,
		}
		if i%2 == 1 {
			e.doc, e.inline = docInline, []byte(`"http://example.org"`)
		}
		es = append(es, e)
	}
	return es
}

// FuzzHead: a head is decoded or refused; its blocks lie in its range, and
// what is decoded is what would be written.
func FuzzHead(f *testing.F) {
	s := emptySpan()
	for _, e := range fuzzEntries(4) {
		s.add(&e)
	}
	u := unit{first: 10, last: 40, count: 9, bytes: 900, span: s}
	f.Add(appendHead(nil, u, nil), uint64(10))
	f.Add(appendHead(nil, u, []unit{{first: 10, last: 20, count: 5, bytes: 300, span: s}, {first: 22, last: 40, count: 4, bytes: 300, span: s}}), uint64(10))
	f.Fuzz(func(t *testing.T, raw []byte, first uint64) {
		u, blocks, err := decodeHead(raw, first, nil)
		if err != nil || first == 0 {
			return
		}
		last := first - 1
		for _, b := range blocks {
			if b.first <= last || b.last < b.first || b.last > u.last || b.count < 1 || uint64(b.count) > b.last-b.first+1 {
				t.Fatalf("block %+v of %+v behind %d", b, u, last)
			}
			last = b.last
		}
		if u.count < 0 || u.bytes < 0 {
			t.Fatalf("%+v", u)
		}
		written := appendHead(nil, u, blocks)
		again, blocks, err := decodeHead(written, first, nil)
		if err != nil || !bytes.Equal(appendHead(nil, again, blocks), written) {
			t.Fatalf("%+v became %+v, %v", u, again, err)
		}
	})
}

// FuzzChunk: a chunk of the index is decoded or refused; what is decoded is
// what would be written.
func FuzzChunk(f *testing.F) {
	f.Add(appendChunk(nil, []chunkEntry{
		{id: 3, first: 9, blocks: []uint32{0, 0, 2}, sizes: []uint32{5, 6, 7}}, {id: 70, first: 1, blocks: []uint32{1}, sizes: []uint32{90}},
	}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e chunkEntry
		var all []chunkEntry
		_, err := eachInChunk(raw, &e, nil, func(e *chunkEntry) bool {
			if e.count() == 0 || len(e.sizes) != len(e.blocks) || e.last() < e.first {
				t.Fatalf("%+v", e)
			}
			all = append(all, chunkEntry{id: e.id, first: e.first, blocks: slices.Clone(e.blocks), sizes: slices.Clone(e.sizes)})
			return true
		})
		if err == nil {
			n := 0
			_, err := eachInChunk(appendChunk(nil, all), &e, nil, func(e *chunkEntry) bool {
				if was := &all[n]; e.id != was.id || e.first != was.first || !slices.Equal(e.blocks, was.blocks) || !slices.Equal(e.sizes, was.sizes) {
					t.Fatalf("%+v became %+v", was, e)
				}
				n++
				return true
			})
			if err != nil || n != len(all) {
				t.Fatalf("%d Things, then %d, %v", len(all), n, err)
			}
		}
		_, _ = eachInChunk(raw, &e, func(id uint32) bool { return id%2 == 0 }, func(*chunkEntry) bool { return true })
	})
}

// FuzzRing: a Thing of a checkpoint is decoded or refused; what is decoded, of
// its losses too, is what would be written.
func FuzzRing(f *testing.F) {
	db := &DB{}
	r := &ring{id: 5, name: "a", head: 9, latest: latest{seq: 90, received: 1.8e15, ts: 1.8e9, data: []byte("1"), doc: []byte(`"x"`)}}
	r.fk.Store(3)
	f.Add(db.appendRing(nil, r))
	f.Fuzz(func(t *testing.T, raw []byte) {
		docs := [][]byte{[]byte(`"doc"`)}
		encode := func(l loadedRing) []byte {
			r := &ring{id: l.id}
			l.into(r)
			return db.appendRing(nil, r)
		}
		in := fields{b: raw}
		for len(in.b) > 0 {
			l := in.ring(docs)
			if in.bad {
				break
			}
			l.bytes = min(l.bytes, math.MaxInt64)
			written := encode(l)
			f := fields{b: written}
			again := f.ring(nil)
			if f.bad || len(f.b) > 0 || !bytes.Equal(encode(again), written) {
				t.Fatalf("%+v became %+v", l, again)
			}
		}
	})
}

// FuzzPages: pages of any content are walked, and mended into some that are
// whole, or refused.
func FuzzPages(f *testing.F) {
	raw := fuzzFile(f)
	f.Add(uint32(2*pageSize+10), []byte{1, 2, 3})
	f.Add(uint32(0), []byte{1})
	f.Fuzz(func(t *testing.T, at uint32, with []byte) {
		path := filepath.Join(t.TempDir(), "history.db")
		damaged := bytes.Clone(raw)
		copy(damaged[int(at)%len(damaged):], with)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = Check(t.Context(), path, nil)
		if ro, err := OpenReadOnly(path, Options{}); err == nil {
			_, _ = ro.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { return true })
			_ = ro.Close()
		}
		db, err := Open(path, Options{MaxDB: MinMaxDB, Grace: time.Second})
		if err != nil {
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, damaged) {
				t.Error("a refused file was changed")
			}
			return
		}
		if _, err := db.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { return true }); err != nil {
			t.Error(err)
		}
		if _, err := db.Append(t.Context(), []thing.Update{update("a", 1)}); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// fuzzFile is a small history, without the pages that nothing is on yet.
func fuzzFile(f *testing.F) []byte {
	path := filepath.Join(f.TempDir(), "history.db")
	db, err := Open(path, Options{MaxDB: MinMaxDB})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 40 {
		us := []thing.Update{update("a", i), update("b.c", i)}
		us[0].Data = bytes.Repeat([]byte("x"), 37*i)
		if _, err := db.Append(f.Context(), us); err != nil {
			f.Fatal(err)
		}
		if i == 25 {
			if err := db.Maintain(); err != nil {
				f.Fatal(err)
			}
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	p, err := openPages(bytes.NewReader(raw))
	if err != nil {
		f.Fatal(err)
	}
	return raw[:p.meta.high*pageSize]
}
