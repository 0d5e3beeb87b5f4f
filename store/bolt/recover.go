package bolt

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/internal/wire"
	"tbhist/migrations"
	"tbhist/store"
	"tbhist/thing"
)

// recover opens the file and brings memory to the state of its head: the
// checkpoint, what stands behind it in segments and log, the limits that
// were in force, then the new ones.
func (db *DB) recover() error {
	_, statErr := os.Stat(db.path)
	f, err := openFile(db.path, db.o.MaxDB)
	if err != nil {
		return err
	}
	db.file = f
	fresh := false
	if err := f.view(func(tx *bbolt.Tx) error {
		fresh, err = isFresh(tx, db.path)
		return err
	}); err != nil {
		return err
	}
	if fresh {
		if err := db.create(); err != nil {
			return err
		}
		if errors.Is(statErr, os.ErrNotExist) {
			if err := syncDir(filepath.Dir(db.path)); err != nil {
				return err
			}
		}
	}
	r := db.reader()
	defer db.release(r)
	var old *limits
	err = f.view(func(tx *bbolt.Tx) (err error) {
		if err := db.loadMeta(tx); err != nil {
			return err
		}
		if old, err = r.loadLimits(tx); err != nil {
			return err
		}
		db.loadDocs(tx)
		db.loadNames(tx)
		if err := db.loadSegments(tx, r); err != nil {
			return err
		}
		from, err := db.loadCheckpoint(tx, r)
		if err != nil {
			return err
		}
		if err := db.replaySegments(tx, r, from); err != nil {
			return err
		}
		if err := db.loadLog(tx, r, from); err != nil {
			return err
		}
		db.loadAged(tx, r)
		return nil
	})
	if err != nil {
		return err
	}
	db.dropEmptyRings()
	db.markUnsure()
	if err := db.applyLimits(old); err != nil {
		return err
	}
	db.countKept()
	db.describe(fresh)
	return nil
}

// isFresh tells a new file from a history, and refuses what is neither.
func isFresh(tx *bbolt.Tx, path string) (bool, error) {
	if k, _ := tx.Cursor().First(); k == nil {
		return true, nil
	}
	meta := tx.Bucket(bucketMeta)
	if meta == nil || len(meta.Get(keyFormat)) != 4 {
		return false, fmt.Errorf("%s: %w", path, store.ErrNotHistory)
	}
	if err := migrations.Check(binary.BigEndian.Uint32(meta.Get(keyFormat))); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range allBuckets {
		if tx.Bucket(name) == nil {
			return false, damaged([]byte("file"), nil, fmt.Errorf("bucket %s is missing", name))
		}
	}
	return false, nil
}

func (db *DB) create() error {
	epoch := make([]byte, 4)
	if _, err := rand.Read(epoch); err != nil {
		return err
	}
	return db.update(false, func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(bucketMeta)
		return errors.Join(
			meta.Put(keyFormat, binary.BigEndian.AppendUint32(nil, migrations.Current)),
			meta.Put(keyEpoch, []byte(hex.EncodeToString(epoch))),
			meta.Put(keyCreated, binary.BigEndian.AppendUint64(nil, uint64(db.o.Now().UnixMicro()))),
			meta.Put(keyHead, sealed(binary.BigEndian.AppendUint64(nil, 0))),
			meta.Put(keyIDs, sealed(make([]byte, 8))),
		)
	})
}

func (db *DB) loadMeta(tx *bbolt.Tx) error {
	meta := tx.Bucket(bucketMeta)
	db.epoch = string(meta.Get(keyEpoch))
	if created := meta.Get(keyCreated); len(created) == 8 {
		db.created = time.UnixMicro(int64(binary.BigEndian.Uint64(created)))
	}
	if len(db.epoch) != 8 {
		return damaged(bucketMeta, keyEpoch, errors.New("no epoch"))
	}
	if head, ok := openSealed(meta.Get(keyHead), 8); ok {
		db.head = binary.BigEndian.Uint64(head)
	} else {
		db.damage(damaged(bucketMeta, keyHead, errors.New("checksum does not match")))
	}
	if ids, ok := openSealed(meta.Get(keyIDs), 8); ok {
		// Ids are given once: one whose name is damaged stays taken.
		db.rings = make([]*ring, binary.BigEndian.Uint32(ids))
		db.docs.byID = make([][]byte, binary.BigEndian.Uint32(ids[4:]))
	} else {
		db.damage(damaged(bucketMeta, keyIDs, errors.New("checksum does not match")))
	}
	return nil
}

func (db *DB) loadDocs(tx *bbolt.Tx) {
	eachNumbered(tx.Bucket(bucketDocs), func(id uint32, doc []byte, ok bool) {
		if !ok {
			db.damage(damaged(bucketDocs, idKey(id), errors.New("checksum does not match")))
			return
		}
		for uint32(len(db.docs.byID)) <= id {
			db.docs.byID = append(db.docs.byID, nil)
		}
		db.docs.byID[id] = bytes.Clone(doc)
		db.docs.ids[string(doc)] = id
	})
}

func (db *DB) loadNames(tx *bbolt.Tx) {
	eachNumbered(tx.Bucket(bucketThings), func(id uint32, name []byte, ok bool) {
		if !ok || !thing.ValidName(name) {
			db.damage(damaged(bucketThings, idKey(id), errors.New("checksum does not match")))
			// Its updates have no name any more; one that stands for it keeps
			// them apart from everybody else's.
			name = []byte("damaged.t" + strconv.Itoa(int(id)))
		}
		for uint32(len(db.rings)) <= id {
			db.rings = append(db.rings, nil)
		}
		r := &ring{id: id, name: thing.Name(name)}
		r.fk.Store(1)
		db.rings[id] = r
		db.names[r.name] = r
	})
}

func eachNumbered(b *bbolt.Bucket, yield func(id uint32, value []byte, ok bool)) {
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if len(k) != 4 {
			continue
		}
		value, ok := openChecked(k, v)
		yield(binary.BigEndian.Uint32(k), value, ok)
	}
}

// loadSegments reads the heads. A range without a readable head becomes a
// segment that holds nothing.
func (db *DB) loadSegments(tx *bbolt.Tx, r *reader) error {
	b := tx.Bucket(bucketHeads)
	c, starts := b.Cursor(), b.Cursor()
	next := uint64(1)
	gap := func(to uint64) {
		db.segs = append(db.segs, &segment{unit: unit{first: next, last: to, span: emptySpan()}})
		next = to + 1
	}
	var blocks []unit
	for k, v := starts.First(); k != nil; k, v = starts.Next() {
		if len(k) != 8+pieceNoBytes || binary.BigEndian.Uint16(k[8:]) != 0 {
			continue
		}
		first := binary.BigEndian.Uint64(k)
		c.Seek(k)
		raw, err := r.readAt(bucketHeads, c, k[:8:8], kindHead, v)
		var u unit
		if err == nil {
			u, blocks, err = decodeHead(raw, first, blocks)
		}
		if err == nil && first < next {
			err = fmt.Errorf("begins before seq %d, where the one before it ends", next)
		}
		if err != nil {
			db.damage(damaged(bucketHeads, k[:8], err))
			continue
		}
		if first > next {
			db.damage(damaged(bucketHeads, seqKey(next), fmt.Errorf("no segment up to seq %d", first-1)))
			gap(first - 1)
		}
		seg := &segment{unit: u}
		seg.live.Store(int64(u.count))
		seg.liveBytes.Store(u.bytes)
		db.segs = append(db.segs, seg)
		next = u.last + 1
	}
	return nil
}

// behind is the seq up to which segments reach.
func (db *DB) behind() uint64 {
	if len(db.segs) == 0 {
		return 0
	}
	return db.segs[len(db.segs)-1].last
}

// replaySegments applies what segments hold behind seq from.
func (db *DB) replaySegments(tx *bbolt.Tx, r *reader, from uint64) error {
	c := tx.Bucket(bucketBlocks).Cursor()
	var blocks []unit
	var es []entry
	for _, seg := range db.segs {
		if seg.last <= from || seg.count == 0 {
			continue
		}
		var err error
		if blocks, err = r.loadBlocks(tx, seg, blocks); err != nil {
			db.damage(err)
			continue
		}
		for no, b := range blocks {
			if b.last <= from {
				continue
			}
			got, err := r.readBlock(c, seg, no, b, es)
			if err != nil {
				db.damage(err)
				continue
			}
			es = got
			db.replay(es)
		}
	}
	return nil
}

// replay applies committed entries to the rings.
func (db *DB) replay(es []entry) {
	for i := range es {
		e := &es[i]
		r := db.ringOf(e.id)
		if e.thingSeq <= r.head {
			continue
		}
		if e.thingSeq > r.head+1 {
			// What came between was evicted before it was made a segment.
			r.fk.Store(e.thingSeq)
			r.bytes = 0
		}
		u := e.update(r.name, db.docs.byID)
		r.head, r.next = e.thingSeq, e.thingSeq
		r.bytes += int64(e.size(db.docs.byID))
		r.note(&u, wire.Truthy(u.Doc))
		db.head = max(db.head, e.seq)
	}
}

func (e *entry) update(name thing.Name, docs [][]byte) thing.Update {
	return thing.Update{
		Name: name, Data: e.data, Doc: e.docBytes(docs), TS: e.ts, Received: e.received,
		Seq: e.seq, ThingSeq: e.thingSeq,
	}
}

// ringOf gives the ring of an id that a checked record holds; one whose
// name is lost gets one that stands for it.
func (db *DB) ringOf(id uint32) *ring {
	for uint32(len(db.rings)) <= id {
		db.rings = append(db.rings, nil)
	}
	if db.rings[id] == nil {
		r := &ring{id: id, name: thing.Name("damaged.t" + strconv.Itoa(int(id)))}
		r.fk.Store(1)
		db.rings[id] = r
		db.names[r.name] = r
		db.damage(damaged(bucketThings, idKey(id), errNoRecord))
	}
	return db.rings[id]
}

// loadLog reads the log, applies what is behind seq from and remembers what
// would else mean reading it again.
func (db *DB) loadLog(tx *bbolt.Tx, r *reader, from uint64) error {
	b := tx.Bucket(bucketLog)
	c, starts := b.Cursor(), b.Cursor()
	next := db.behind() + 1
	var es []entry
	for k, v := starts.First(); k != nil; k, v = starts.Next() {
		if len(k) != 8+pieceNoBytes || binary.BigEndian.Uint16(k[8:]) != 0 {
			continue
		}
		c.Seek(k)
		raw, err := r.readAt(bucketLog, c, k[:8:8], kindBatch, v)
		var got []entry
		if err == nil {
			got, err = decodeBatch(raw, es)
		}
		first := binary.BigEndian.Uint64(k)
		if err == nil && (first < next || got[0].seq != first) {
			err = fmt.Errorf("does not begin at seq %d", next)
		}
		if err != nil {
			db.damage(damaged(bucketLog, k[:8], err))
			continue
		}
		if first > next {
			db.damage(damaged(bucketLog, seqKey(next), fmt.Errorf("nothing up to seq %d", first-1)))
		}
		es = got
		var stored int64
		if n := len(v); n >= envelopeBytes {
			stored = storedBytes(envelopeBytes+int(binary.BigEndian.Uint32(v[4:])), 8)
		}
		db.records = append(db.records, newLogRecord(es, db.docs.byID, stored))
		next = es[len(es)-1].seq + 1
		db.replay(es)
	}
	for _, rec := range db.records {
		db.logged.count += rec.count
		db.logged.bytes += rec.bytes
	}
	if last := max(db.behind(), next-1); last > db.head {
		db.head = last
	} else if last < db.head {
		db.damage(damaged(bucketLog, seqKey(last+1), fmt.Errorf("nothing up to seq %d, which was committed", db.head)))
	}
	return nil
}

func newLogRecord(es []entry, docs [][]byte, stored int64) *logRecord {
	rec := &logRecord{
		unit: unit{first: es[0].seq, last: es[len(es)-1].seq, count: len(es), bytes: stored, span: emptySpan()},
		ids:  make([]uint32, len(es)), sizes: make([]uint32, len(es)),
	}
	for i := range es {
		rec.ids[i], rec.sizes[i] = es[i].id, es[i].size(docs)
		rec.span.add(&es[i])
	}
	return rec
}

// dropEmptyRings lets go of names that were committed without an update:
// there are none but by damage.
func (db *DB) dropEmptyRings() {
	for id, r := range db.rings {
		if r != nil && r.head == 0 {
			delete(db.names, r.name)
			db.rings[id] = nil
		}
	}
}

// markUnsure marks the rings of which more may be gone than the checkpoint
// knew: those that evicted something, if anything came after it.
func (db *DB) markUnsure() {
	if db.maint.checkpointAt == db.head {
		return
	}
	for _, r := range db.rings {
		if r != nil {
			r.lostUnsure = r.next > 0 // until the next checkpoint
		}
	}
}

func (db *DB) countKept() {
	var kept uint64
	for _, r := range db.rings {
		if r != nil {
			kept += r.head - r.fk.Load() + 1
		}
	}
	db.kept.Store(kept)
}

func (db *DB) describe(fresh bool) {
	if fresh {
		db.opened = "created, empty"
		return
	}
	s := db.State()
	db.opened = fmt.Sprintf("opened, %s Things, %s updates", grouped(uint64(s.Things)), grouped(s.Updates))
	if s.Oldest != 0 {
		db.opened += " since " + s.Oldest.Time().Local().Format(time.DateOnly)
	}
}

// grouped writes a number with a comma after each three digits.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// damage counts and reports damage that is set aside.
func (db *DB) damage(err error) {
	db.metrics.DamagedRecords.Inc()
	db.log.Error("damage in the history is set aside", "err", err)
}

// syncDir makes a new file's name durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (db *DB) reader() *reader {
	r := db.readers.Get().(*reader)
	r.bytes = 0
	return r
}

func (db *DB) release(r *reader) { db.readers.Put(r) }
