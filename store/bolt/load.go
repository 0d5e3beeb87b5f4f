package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// spareIDs is how many ids a file may have given however small it is: damage
// and compacting may have made it so.
const spareIDs = 1 << 20

// errManyIDs: a checksum fits, but this program did not write it.
var errManyIDs = errors.New("more ids than such a file can have given")

// admit makes room for an id that a checked record holds; ok is false for one
// that cannot have been given, and would take all memory.
func (db *DB) admit(id uint32) (ok bool) {
	if uint64(id) >= db.mostIDs {
		return false
	}
	for uint32(len(db.rings)) <= id {
		db.rings = append(db.rings, nil)
	}
	return true
}

func (db *DB) loadMeta(tx *bbolt.Tx) {
	meta := tx.Bucket(bucketMeta)
	db.epoch = string(meta.Get(keyEpoch))
	if created := meta.Get(keyCreated); len(created) == 8 {
		db.created = time.UnixMicro(int64(binary.BigEndian.Uint64(created)))
	}
	if !validEpoch(meta.Get(keyEpoch)) { // of a file that is only read
		db.damage(damaged(bucketMeta, keyEpoch, errEpoch))
		db.epoch = unknownEpoch
	}
	db.maint.lostDirty = meta.Get(keyLost) != nil
	if head, ok := openSealed(meta.Get(keyHead), 8); ok {
		db.head = binary.BigEndian.Uint64(head)
	} else {
		db.damage(damaged(bucketMeta, keyHead, errors.New("checksum does not match")))
	}
	// Each id has a name or is forgotten, which takes more than 8 bytes.
	db.mostIDs = max(uint64(tx.Size())/8, spareIDs)
	ids, ok := openSealed(meta.Get(keyIDs), 8)
	switch {
	case !ok:
		db.damage(damaged(bucketMeta, keyIDs, errors.New("checksum does not match")))
	case uint64(binary.BigEndian.Uint32(ids)) > db.mostIDs, uint64(binary.BigEndian.Uint32(ids[4:])) > db.mostIDs:
		db.damage(damaged(bucketMeta, keyIDs, errManyIDs))
	default:
		// Ids are given once: one whose name is damaged stays taken.
		db.rings = make([]*ring, binary.BigEndian.Uint32(ids))
		db.docs.byID = make([][]byte, binary.BigEndian.Uint32(ids[4:]))
	}
}

func (db *DB) loadDocs(tx *bbolt.Tx) {
	eachNumbered(tx.Bucket(bucketDocs), func(id uint32, doc []byte, ok bool) {
		if !ok {
			db.damage(damaged(bucketDocs, idKey(id), errors.New("checksum does not match")))
			return
		}
		if uint64(id) >= db.mostIDs {
			db.damage(damaged(bucketDocs, idKey(id), errManyIDs))
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
	given := uint32(len(db.rings))
	eachNumbered(tx.Bucket(bucketThings), func(id uint32, name []byte, ok bool) {
		if !ok || !thing.ValidName(name) {
			db.damage(damaged(bucketThings, idKey(id), errors.New("checksum does not match")))
			if id >= given {
				return // the id itself is damaged: it was never given
			}
			// Its updates have no name any more; one that stands for it keeps
			// them apart from everybody else's.
			name = []byte("damaged.t" + strconv.Itoa(int(id)))
		}
		if !db.admit(id) {
			db.damage(damaged(bucketThings, idKey(id), errManyIDs))
			return
		}
		r := &ring{id: id, name: thing.Name(name)}
		r.fk.Store(1)
		db.rings[id] = r
		if !db.isDead(id) {
			db.names[r.name] = r
		}
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
func (db *DB) loadSegments(tx *bbolt.Tx, r *reader) {
	b := tx.Bucket(bucketHeads)
	c, starts := b.Cursor(), b.Cursor()
	next := uint64(1)
	gap := func(to uint64) {
		db.segs = append(db.segs, r.rebuild(tx, next, to)...)
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
	db.loadTail(tx, r, next)
	if db.file.found != nil {
		doubtIndexes(db.segs)
	}
}

// behind is the seq up to which segments reach.
func (db *DB) behind() uint64 {
	if len(db.segs) == 0 {
		return 0
	}
	return db.segs[len(db.segs)-1].last
}

// replaySegments applies what segments hold behind seq from. It tells
// whether something of that could not be read.
func (db *DB) replaySegments(tx *bbolt.Tx, r *reader, from uint64) (holed bool) {
	c := tx.Bucket(bucketBlocks).Cursor()
	var blocks []unit
	var es []entry
	for _, seg := range db.segs {
		// A segment without a head may end anywhere.
		holed = holed || ((seg.damaged || seg.table != nil) && seg.last > from)
		if seg.last <= from || seg.count == 0 {
			continue
		}
		var err error
		if blocks, err = r.loadBlocks(tx, seg, blocks); err != nil {
			db.damage(err)
			holed = true
			continue
		}
		for no, b := range blocks {
			if b.last <= from {
				continue
			}
			got, err := r.readBlock(c, seg, no, b, es)
			if err != nil {
				db.damage(err)
				holed = true
				continue
			}
			es = got
			db.replay(es, holed)
		}
	}
	return holed
}

// replay applies committed entries to the rings. holed tells that something
// before them could not be read.
func (db *DB) replay(es []entry, holed bool) {
	said := false
	for i := range es {
		e := &es[i]
		if db.isDead(e.id) {
			db.head = max(db.head, e.seq)
			continue
		}
		r := db.ringOf(e.id)
		if r == nil {
			if !said {
				db.damage(damaged(bucketThings, idKey(e.id), errManyIDs))
			}
			said = true
			db.head = max(db.head, e.seq)
			continue
		}
		if e.thingSeq <= r.head {
			continue
		}
		if e.thingSeq > r.head+1 && (!holed || r.head == 0) {
			// What came between was evicted before it was made a segment. Where
			// damage may have taken it, what is older is no worse for that.
			r.fk.Store(e.thingSeq)
			r.bytes = 0
		}
		u := e.update(r.name, db.docs.byID)
		r.head, r.next = e.thingSeq, e.thingSeq
		r.bytes += int64(e.size(db.docs.byID))
		r.note(&u, e.sharedDoc(db.docs.byID), wire.Truthy(u.Doc))
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
// name is lost gets one that stands for it. It is nil for an id that cannot
// have been given.
func (db *DB) ringOf(id uint32) *ring {
	if !db.admit(id) {
		return nil
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
// would else mean reading it again. holed is what replaySegments told.
func (db *DB) loadLog(tx *bbolt.Tx, r *reader, holed bool) {
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
			holed = true
		}
		es = got
		var stored int64
		if n := len(v); n >= envelopeBytes {
			stored = storedBytes(envelopeBytes+int(binary.BigEndian.Uint32(v[4:])), 8)
		}
		db.records = append(db.records, newLogRecord(es, db.docs.byID, stored))
		next = es[len(es)-1].seq + 1
		db.replay(es, holed)
	}
	db.sumLogged()
	if last := max(db.behind(), next-1); last > db.head {
		db.head = last
	} else if last < db.head {
		db.damage(damaged(bucketLog, seqKey(last+1), fmt.Errorf("nothing up to seq %d, which was committed", db.head)))
	}
}

// sumLogged sums up the records of the log.
func (db *DB) sumLogged() {
	db.logged = unit{}
	for _, rec := range db.records {
		db.noteLogged(rec)
	}
}

// noteLogged adds a record to the sums.
func (db *DB) noteLogged(rec *logRecord) {
	if db.logged.count == 0 {
		db.logged.span = emptySpan()
	}
	db.logged.span.join(rec.span)
	db.logged.count += rec.count
	db.logged.bytes += rec.bytes
}

func newLogRecord(es []entry, docs [][]byte, stored int64) *logRecord {
	rec := &logRecord{ids: make([]uint32, len(es)), sizes: make([]uint32, len(es))}
	rec.of(es, docs, stored)
	return rec
}

// newLogRecords makes those of a staged batch, of few pieces of memory.
func newLogRecords(s *stage, docs [][]byte) []logRecord {
	recs := make([]logRecord, len(s.records))
	both := make([]uint32, 2*len(s.entries))
	ids, sizes := both[:len(s.entries)], both[len(s.entries):]
	for i, r := range s.records {
		recs[i].ids, recs[i].sizes = ids[r.from:r.to:r.to], sizes[r.from:r.to:r.to]
		recs[i].of(s.entries[r.from:r.to], docs, storedBytes(r.stored, 8))
	}
	return recs
}

// of fills in a record of some entries; its slices have room for them.
func (rec *logRecord) of(es []entry, docs [][]byte, stored int64) {
	rec.unit = unit{first: es[0].seq, last: es[len(es)-1].seq, count: len(es), bytes: stored, span: emptySpan()}
	for i := range es {
		rec.ids[i], rec.sizes[i] = es[i].id, es[i].size(docs)
		rec.span.add(&es[i])
	}
}
