package bolt

import (
	"encoding/binary"
	"errors"
	"math"

	"go.etcd.io/bbolt"

	"tbhist/internal/failpoint"
	"tbhist/thing"
)

const (
	checkpointVersion = 1
	// checkpointEvery is how many updates a start reads behind a checkpoint
	// at most, for each 20th of a Thing.
	checkpointEvery   = 262144
	checkpointPerRing = 20
	// checkpointTx bounds the bytes of one transaction of a checkpoint.
	checkpointTx = 2 << 20
)

// checkpointDue tells whether enough came in since the last checkpoint.
func (db *DB) checkpointDue() bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.head-db.maint.checkpointAt >= max(checkpointEvery, checkpointPerRing*uint64(len(db.names)))
}

// checkpoint writes all Things down. Entries may be newer than its seq; the
// input goes on meanwhile.
func (db *DB) checkpoint() (err error) {
	dirty := db.maint.lostDirty
	db.maint.lostDirty = false // what goes from here on may be in no part
	defer func() {
		if err != nil {
			db.maint.lostDirty = db.maint.lostDirty || dirty
		}
	}()
	db.mu.RLock()
	seq, rings := db.head, db.rings
	db.mu.RUnlock()
	var (
		parts   [][]byte // envelopes not yet written
		written uint32
		things  int
		pending int
		raw     []byte
	)
	flush := func(final func(*bbolt.Tx) error) error {
		db.writing.Lock()
		defer db.writing.Unlock()
		err := db.update(false, func(tx *bbolt.Tx) error {
			if err := db.spareReserve(tx, pagesFor(int64(pending))); err != nil {
				return err
			}
			b := tx.Bucket(bucketCheckpoint)
			for i, envelope := range parts {
				key := subKey(seq, written+1+uint32(i))
				// An unfinished or older one of the same seq gives way.
				if err := deleteRecords(b, key, subKey(seq, written+2+uint32(i))); err != nil {
					return err
				}
				if err := putPieces(b, key, envelope); err != nil {
					return err
				}
			}
			if final != nil {
				return final(tx)
			}
			return nil
		})
		if err == nil {
			written += uint32(len(parts))
			parts, pending = nil, 0
		}
		return err
	}
	for next := 0; next < len(rings); {
		var n int
		db.evicting.Lock() // fk and bytes of a ring move together
		db.mu.RLock()
		raw, n, next = db.appendPart(raw[:0], rings, next)
		db.mu.RUnlock()
		db.evicting.Unlock()
		if n == 0 {
			break
		}
		things += n
		key := subKey(seq, written+1+uint32(len(parts)))
		parts = append(parts, db.codecs.envelope(nil, key, kindCheckpoint, codecZstd, raw))
		// One that takes the place of another of the same seq does so in one
		// transaction, however large: half of each would be no checkpoint.
		if pending += len(parts[len(parts)-1]); pending > checkpointTx && seq != db.maint.checkpointAt {
			if err := flush(nil); err != nil {
				return errors.Join(err, db.dropParts(seq))
			}
			failpoint.Hit("checkpoint.part")
		}
		db.keepUp()
	}
	err = flush(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketCheckpoint)
		total := written + uint32(len(parts))
		head := checkpointHead(total, uint64(things), db.evicted.Load())
		key := subKey(seq, 0)
		// Older checkpoints, and parts of this seq beyond the last, go.
		if err := errors.Join(
			deleteRecords(b, seqKey(0), subKey(seq, 1)),
			deleteRecords(b, subKey(seq, total+1), seqKey(math.MaxUint64)),
			putPieces(b, key, db.codecs.envelope(nil, key, kindCheckpoint, codecRaw, head)),
		); err != nil {
			return err
		}
		if !db.maint.lostDirty { // nothing went meanwhile
			if err := tx.Bucket(bucketMeta).Delete(keyLost); err != nil {
				return err
			}
		}
		failpoint.Hit("checkpoint.last")
		return db.putLimits(tx)
	})
	switch {
	case err != nil && written > 0:
		return errors.Join(err, db.dropParts(seq))
	case err != nil:
		return err
	}
	failpoint.Hit("checkpoint.after")
	db.maint.checkpointAt = seq
	return nil
}

// dropParts takes back the parts of a checkpoint that could not be finished:
// they would fill a file that has little room.
func (db *DB) dropParts(seq uint64) error {
	db.writing.Lock()
	defer db.writing.Unlock()
	return db.update(false, func(tx *bbolt.Tx) error {
		return deleteRecords(tx.Bucket(bucketCheckpoint), seqKey(seq), seqKey(seq+1))
	})
}

// checkpointHead encodes part 0.
func checkpointHead(parts uint32, things, evicted uint64) []byte {
	head := []byte{checkpointVersion}
	head = binary.AppendUvarint(head, uint64(parts))
	head = binary.AppendUvarint(head, things)
	return binary.AppendUvarint(head, evicted)
}

// appendPart encodes rings from next on until the part is full. Under evicting and mu.
func (db *DB) appendPart(dst []byte, rings []*ring, next int) (part []byte, n, end int) {
	var body []byte
	for ; next < len(rings) && len(body) < partRaw; next++ {
		r := rings[next]
		if r == nil || r.head == 0 || r.gone() || db.rings[next] != r {
			continue
		}
		n++
		body = db.appendRing(body, r)
	}
	dst = append(dst, checkpointVersion)
	dst = binary.AppendUvarint(dst, uint64(n))
	return append(dst, body...), n, next
}

func (db *DB) appendRing(dst []byte, r *ring) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.id))
	dst = binary.AppendUvarint(dst, r.head)
	dst = binary.AppendUvarint(dst, r.fk.Load())
	dst = binary.AppendUvarint(dst, uint64(max(r.bytes, 0)))
	l := &r.latest
	gone := r.lost
	if fk := r.fk.Load(); r.unsure != 0 && fk > 1 {
		gone = lost{fk - 1, l.seq, l.received, l.ts} // no later than that
	}
	dst = binary.AppendUvarint(dst, gone.thingSeq)
	dst = binary.AppendUvarint(dst, gone.seq)
	dst = binary.AppendUvarint(dst, zigzag(int64(gone.received)))
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(gone.ts))
	dst = binary.AppendUvarint(dst, l.seq)
	dst = binary.AppendUvarint(dst, zigzag(int64(l.received)))
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(l.ts))
	dst = appendDoc(dst, l.doc)
	dst = binary.AppendUvarint(dst, uint64(len(l.data)))
	dst = append(dst, l.data...)
	return appendDoc(dst, l.sticky)
}

func appendDoc(dst, doc []byte) []byte {
	if doc == nil {
		return append(dst, docNull)
	}
	dst = append(dst, docInline)
	dst = binary.AppendUvarint(dst, uint64(len(doc)))
	return append(dst, doc...)
}

func (f *fields) doc(docs [][]byte) []byte {
	switch code := f.uv(); {
	case code == docNull:
		return nil
	case code == docInline:
		return f.take(f.uv())
	case code-docIDs < uint64(len(docs)):
		return docs[code-docIDs]
	}
	f.bad = true
	return nil
}

var errCheckpoint = errors.New("not a checkpoint of format 1")

// loadCheckpoint brings the rings to the newest whole checkpoint and gives
// its seq; 0 when there is none.
func (db *DB) loadCheckpoint(tx *bbolt.Tx, r *reader) (uint64, error) {
	b := tx.Bucket(bucketCheckpoint)
	var seqs []uint64
	c := b.Cursor()
	for k, _ := c.First(); len(k) >= 8; {
		seq := binary.BigEndian.Uint64(k)
		seqs = append(seqs, seq)
		if seq == math.MaxUint64 {
			break
		}
		k, _ = c.Seek(seqKey(seq + 1))
	}
	for i := len(seqs) - 1; i >= 0; i-- {
		loaded, err := db.loadCheckpointAt(r, c, seqs[i])
		if err == nil {
			for _, l := range loaded {
				if db.isDead(l.id) {
					continue
				}
				l.into(db.ringOf(l.id)) // a name that is lost is no reason to forget the rest
			}
			db.maint.checkpointAt = seqs[i]
			return seqs[i], nil
		}
		if !errors.Is(err, errNoRecord) {
			db.damage(err)
		}
	}
	return 0, nil
}

// loadedRing is one Thing of a checkpoint: taken over only when all parts
// could be read.
type loadedRing struct {
	id              uint32
	head, fk, bytes uint64
	lost            lost
	latest          latest
}

func (l *loadedRing) into(r *ring) {
	r.head, r.next, r.bytes = l.head, l.head, int64(l.bytes)
	r.fk.Store(l.fk)
	r.lost, r.latest = l.lost, l.latest
}

func (db *DB) loadCheckpointAt(r *reader, c *bbolt.Cursor, seq uint64) ([]loadedRing, error) {
	raw, err := r.read(bucketCheckpoint, c, subKey(seq, 0), kindCheckpoint)
	if err != nil {
		return nil, err
	}
	f := fields{b: raw}
	version, parts, things := f.byte(), f.uv(), f.uv()
	if f.bad || version != checkpointVersion {
		return nil, damaged(bucketCheckpoint, subKey(seq, 0), errCheckpoint)
	}
	loaded := make([]loadedRing, 0, min(things, uint64(len(db.rings))))
	for k := range parts {
		key := subKey(seq, uint32(k)+1)
		raw, err := r.read(bucketCheckpoint, c, key, kindCheckpoint)
		if err != nil {
			return nil, err
		}
		f := fields{b: raw}
		if f.byte() != checkpointVersion {
			return nil, damaged(bucketCheckpoint, key, errCheckpoint)
		}
		for range f.uv() {
			l := f.ring(db.docs.byID)
			if f.bad || uint64(l.id) >= uint64(len(db.rings)) || l.fk == 0 || l.fk > l.head {
				return nil, damaged(bucketCheckpoint, key, errCheckpoint)
			}
			loaded = append(loaded, l)
		}
	}
	if uint64(len(loaded)) != things {
		return nil, damaged(bucketCheckpoint, subKey(seq, 0), errCheckpoint)
	}
	return loaded, nil
}

func (f *fields) ring(docs [][]byte) loadedRing {
	l := loadedRing{id: uint32(f.uv()), head: f.uv(), fk: f.uv(), bytes: f.uv()}
	l.lost.thingSeq, l.lost.seq = f.uv(), f.uv()
	l.lost.received, l.lost.ts = thing.Micros(f.zz()), f.f64()
	l.latest.seq, l.latest.received, l.latest.ts = f.uv(), thing.Micros(f.zz()), f.f64()
	// What outlives the reader's buffer is copied.
	l.latest.doc = clone(f.doc(docs))
	l.latest.data = clone(f.take(f.uv()))
	l.latest.sticky = clone(f.doc(docs))
	return l
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}
