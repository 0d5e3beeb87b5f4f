package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/store"
	"tbhist/thing"
)

// FuzzCheckpoint: parts are taken over all together or not at all, of Things
// that there are and that can be; what they say of memory is not believed.
func FuzzCheckpoint(f *testing.F) {
	db := fuzzHistory(f)
	r := &ring{id: 1, name: "b", head: 9, latest: latest{seq: 90, received: 1e15, ts: 1e9, data: []byte("1")}}
	r.fk.Store(3)
	part := db.appendRing([]byte{checkpointVersion, 1}, r)
	f.Add(checkpointHead(1, 1, 2), part)
	f.Add(checkpointHead(0, 0, 0), []byte{})
	f.Add(checkpointHead(math.MaxUint32, math.MaxUint64, math.MaxUint64), part)
	f.Add(checkpointHead(1, 1, 0), binary.AppendUvarint([]byte{checkpointVersion}, math.MaxUint64))
	r.fk.Store(10)
	f.Add(checkpointHead(1, 1, 2), db.appendRing([]byte{checkpointVersion, 1}, r)) // more evicted than there was
	r.id = 70
	f.Add(checkpointHead(1, 1, 2), db.appendRing([]byte{checkpointVersion, 1}, r)) // of no Thing
	f.Fuzz(func(t *testing.T, head, part []byte) {
		rolledBack(t, db, func(tx *bbolt.Tx) {
			const seq = 1 << 40
			mustPut(t, db, tx, bucketCheckpoint, subKey(seq, 1), kindCheckpoint, part)
			mustPut(t, db, tx, bucketCheckpoint, subKey(seq, 0), kindCheckpoint, head)
			d := emptied(db, 1, 1, 0, 1)
			modest(t, len(head)+len(part), func() {
				from, err := d.loadCheckpoint(tx, &reader{codecs: d.codecs})
				if err != nil || from != 0 && from != seq {
					t.Fatalf("up to %d, %v", from, err)
				}
			})
			for id, r := range d.rings {
				if r != nil && (r.fk.Load() < 1 || r.fk.Load() > r.head) {
					t.Fatalf("Thing %d: %d of %d", id, r.fk.Load(), r.head)
				}
			}
		})
	})
}

// FuzzStream: a backup stream is read or refused; what was read is what would
// be written.
func FuzzStream(f *testing.F) {
	write := func(h streamHead, pairs []pair, end *streamTotals) []byte {
		var to bytes.Buffer
		s := &streamWriter{w: &to}
		err := s.begin(h)
		for _, p := range pairs {
			err = errors.Join(err, s.put(p.bucket, p.key, p.value))
		}
		if err = errors.Join(err, s.end(*end)); err != nil {
			f.Fatal(err)
		}
		return to.Bytes()
	}
	h := streamHead{epoch: "00c0ffee", head: 80, about: 1000}
	whole := write(h, []pair{{bucketMeta, keyEpoch, []byte("00c0ffee")}, {bucketMeta, keyHead, nil}, {bucketDocs, idKey(1), []byte("doc")}}, &streamTotals{2, 80, 80, 3})
	f.Add(whole, true)
	f.Add(whole[:len(whole)-1], false)
	f.Add(append(bytes.Clone(whole), 0), false)
	f.Add(write(h, nil, &streamTotals{}), true)
	huge := bytes.Clone(whole)
	binary.BigEndian.PutUint32(huge[streamHeader+8:], math.MaxUint32)
	f.Add(huge, false)
	f.Fuzz(func(t *testing.T, stream []byte, seal bool) {
		if seal {
			stream = resealed(stream)
		}
		var pairs []pair
		var head streamHead
		var end *streamTotals
		modest(t, len(stream), func() {
			in := &streamReader{r: bytes.NewReader(stream)}
			var err error
			for head, err = in.begin(); err == nil && end == nil; {
				end, err = in.next(func(bucket, key, value []byte) error {
					pairs = append(pairs, pair{bytes.Clone(bucket), bytes.Clone(key), bytes.Clone(value)})
					return nil
				})
			}
		})
		if end == nil {
			return
		}
		again := &streamReader{r: bytes.NewReader(write(head, pairs, end))}
		h, err := again.begin()
		if err != nil || h != head {
			t.Fatalf("%+v became %+v, %v", head, h, err)
		}
		n := 0
		for err, was := error(nil), end; ; {
			if end, err = again.next(func(bucket, key, value []byte) error {
				if p := pairs[n]; !bytes.Equal(p.bucket, bucket) || !bytes.Equal(p.key, key) || !bytes.Equal(p.value, value) {
					t.Fatalf("%q became %q %q %q", p, bucket, key, value)
				}
				n++
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if end != nil {
				if *end != *was || n != len(pairs) {
					t.Fatalf("%+v and %d pairs became %+v and %d", *was, len(pairs), *end, n)
				}
				return
			}
		}
	})
}

// resealed gives a stream the numbers and checksums that go with what it says.
func resealed(stream []byte) []byte {
	b := bytes.Clone(stream)
	if len(b) < streamHeader {
		return b
	}
	copy(b, sealed(b[:streamHeader-4:streamHeader-4]))
	rest := b[streamHeader:]
	for no := uint32(1); len(rest) >= chunkHeader; no++ {
		binary.BigEndian.PutUint32(rest, no)
		end := chunkHeader + uint64(binary.BigEndian.Uint32(rest[8:]))
		if end > uint64(len(rest)) {
			break
		}
		binary.BigEndian.PutUint32(rest[12:], chunkSum(rest[:12], rest[chunkHeader:end]))
		rest = rest[end:]
	}
	return b
}

// FuzzFile: a file of which any record or value says anything, with checksums
// that fit, is opened or refused, read and written; what is wrong with it takes
// neither the process nor its memory.
func FuzzFile(f *testing.F) {
	base := filePairs(f)
	buckets := append(bytes.Split([]byte("limits things docs log heads index blocks checkpoint forgotten"), []byte(" ")), bucketMeta)
	codecs, err := newCodecs()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(codecs.close)
	for at, bucket := range buckets { // some of what there is, as it is
		if i := slices.IndexFunc(base, func(p pair) bool { return bytes.Equal(p.bucket, bucket) }); i >= 0 {
			f.Add(byte(at), base[i].key, byte(0), base[i].value)
		}
	}
	most := bytes.Repeat([]byte{0xff}, 8)
	f.Add(byte(9), []byte("ids"), byte(2), most)
	f.Add(byte(9), []byte("head"), byte(2), most)
	f.Add(byte(1), most[:4], byte(1), []byte("a.b"))
	f.Add(byte(2), most[:4], byte(1), []byte(`"doc"`))
	g := grave{id: math.MaxUint32, head: 1, at: 1}
	f.Add(byte(8), most[:4], byte(1), g.append(nil))
	f.Add(byte(0), []byte("limits"), byte(2+kindLimits), []byte(`{"rules":[{"prefix":"a","count":1},{"prefix":"a","count":2}]}`))
	es := fuzzEntries(2)
	es[1].id = math.MaxUint32
	f.Add(byte(3), seqKey(10), byte(2+kindBatch), appendBatch(nil, es))
	f.Add(byte(6), subKey(10, 0), byte(2+kindBatch), appendBatch(nil, es))
	f.Fuzz(func(t *testing.T, bucket byte, key []byte, form byte, value []byte) {
		if int(bucket) >= len(buckets) || len(key) == 0 || len(key) > 12+pieceNoBytes || len(value) > 1<<16 {
			return
		}
		change := []pair{{buckets[bucket], key, value}}
		switch {
		case form == 1:
			change[0].value = checkedValue(key, value)
		case form == 2:
			change[0].value = sealed(bytes.Clone(value))
		case form > 2:
			change = nil
			_ = eachPiece(key, codecs.envelope(nil, key, form-2, codecRaw, value), func(k, v []byte) error {
				change = append(change, pair{buckets[bucket], bytes.Clone(k), bytes.Clone(v)})
				return nil
			})
		}
		path := filepath.Join(t.TempDir(), "history.db")
		b, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(b.Update(func(tx *bbolt.Tx) error {
			for _, pairs := range [][]pair{base, change} {
				for _, p := range pairs {
					in, err := tx.CreateBucketIfNotExists(p.bucket)
					if err != nil {
						return err
					}
					if err := in.Put(p.key, p.value); err != nil {
						return err
					}
				}
			}
			return nil
		}), b.Close()); err != nil {
			t.Fatal(err)
		}
		size := 0
		if info, err := os.Stat(path); err == nil {
			size = int(info.Size())
		}
		modest(t, size, func() {
			_, _ = Check(t.Context(), path, nil)
			if ro, err := OpenReadOnly(path, Options{}); err == nil {
				_, _ = ro.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { return true })
				_ = ro.Close()
			}
			db, err := Open(path, Options{MaxDB: MinMaxDB, Grace: time.Nanosecond})
			if err != nil {
				return
			}
			_, _ = db.Read(t.Context(), store.Query{Tree: true}, func(*thing.Update) bool { return true })
			_, _ = db.Append(t.Context(), []thing.Update{update("a", 1)})
			if err := db.Close(); err != nil {
				t.Log(err)
			}
		})
	})
}

// filePairs are all pairs of a small history: two segments, a log, a
// checkpoint, and a Thing that was forgotten.
func filePairs(f *testing.F) (pairs []pair) {
	path := filepath.Join(f.TempDir(), "history.db")
	db, err := Open(path, Options{MaxDB: MinMaxDB, Rules: []store.Rule{{Prefix: "a", Limit: store.Limit{Count: 30}}}})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 40 {
		us := []thing.Update{update("a", i), update("b.c", i), update("d", i)}
		if _, err := db.Append(f.Context(), us[:3-i/30]); err != nil {
			f.Fatal(err)
		}
		if i%15 == 14 {
			if err := db.Maintain(); err != nil {
				f.Fatal(err)
			}
		}
		if i == 30 {
			if _, err := db.Forget(f.Context(), "d", false, false); err != nil {
				f.Fatal(err)
			}
		}
	}
	if err := db.file.view(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				pairs = append(pairs, pair{bytes.Clone(bucket), bytes.Clone(k), bytes.Clone(v)})
				return nil
			})
		})
	}); err != nil {
		f.Fatal(err)
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	return pairs
}
