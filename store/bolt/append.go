package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"tbhist/internal/failpoint"
	"tbhist/internal/wire"
	"tbhist/metrics"
	"tbhist/store"
	"tbhist/thing"
)

// stage is a batch on its way to disk, and buffers used again.
type stage struct {
	slots       thing.Slots[ring]
	rings       []*ring // of each update
	entries     []entry
	fresh       []*ring // Things that come with this batch
	freshByName map[thing.Name]*ring
	docs        [][]byte // documentation URLs that come with it
	raw         []byte
	records     []stagedRecord
	stored      []byte  // the records' envelopes
	byBytes     []*ring // touched rings with a byte limit
}

type stagedRecord struct {
	from, to       int // of stage.entries
	begins, stored int // its envelope in stage.stored, and how long it is
}

// trim lets go of what one huge batch took: it is no reason to keep as much
// for ever.
func (s *stage) trim() {
	if cap(s.raw) > stageKeeps {
		s.raw = nil
	}
	if cap(s.stored) > stageKeeps {
		s.stored = nil
	}
}

const stageKeeps = 4 << 20

// Append implements store.Store.
func (db *DB) Append(ctx context.Context, batch []thing.Update) ([]thing.Update, error) {
	if len(batch) == 0 {
		return batch, nil
	}
	db.appending.Lock()
	defer db.appending.Unlock()
	if err := db.isClosing(ctx); err != nil {
		return nil, err
	}
	if db.degraded.Load() != nil && time.Now().Before(db.nextTry) {
		return nil, db.notKept()
	}
	if err := db.awaitRoom(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	db.stageBatch(batch)
	if err := db.commit(ctx, true, db.putStaged); err != nil {
		db.unstage(batch)
		clear(db.stage.entries)
		return nil, err
	}
	failpoint.Hit("append.after")
	db.applyStaged(batch)
	clear(db.stage.entries) // they point into the batch
	db.stage.trim()
	db.metrics.CommitSeconds.Observe(time.Since(began).Seconds())
	db.metrics.BatchUpdates.Observe(float64(len(batch)))
	return batch, nil
}

// logFull tells whether the log holds two segments' worth.
func (db *DB) logFull() bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.logged.count >= 2*segmentTarget || db.logged.bytes >= 2*db.segmentBytes()
}

// segmentBytes is the stored size at which the log becomes a segment:
// 16 MiB, less in a small file.
func (db *DB) segmentBytes() int64 { return min(segmentRaw, db.o.MaxDB/16) }

// logDue tells whether the log should become a segment: earlier where room is
// short, since what was evicted of it takes as much as what was not.
func (db *DB) logDue() bool {
	share := 1
	if db.isCramped() {
		share = 8
	}
	return db.logged.count >= segmentTarget/share || db.logged.bytes >= db.segmentBytes()/int64(share)
}

// awaitRoom holds the input back while the log is full, or the file nearly:
// the background work is behind. A file in which nothing can be given back is
// not waited for: the commit will tell. Background work that fails for longer
// than the grace is a disk that refuses; the log takes no more then.
func (db *DB) awaitRoom(ctx context.Context) error {
	for {
		full := db.logFull()
		if !full && (!db.nearlyFull() || db.stuck.Load()) {
			return nil
		}
		db.nudge()
		if f := db.failing.Load(); f != nil && time.Since(f.since) > db.o.Grace {
			if !full {
				return nil
			}
			db.setDegraded(f.err)
			db.nextTry = time.Now().Add(retryEvery)
			return db.notKept()
		}
		if db.degraded.Load() != nil {
			return nil // the commit will tell
		}
		select {
		case <-db.room:
		case <-db.closing:
			return store.ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// canGive tells whether background work may yet make room in a full file. It
// does not try to in one of which enough is free, though in too small pieces,
// nor while the history closes.
func (db *DB) canGive() bool {
	f := db.failing.Load()
	return db.nearlyFull() && !db.stuck.Load() && !db.isClosingNow() && (f == nil || time.Since(f.since) <= db.o.Grace)
}

// nearlyFull tells whether the file is so large, or the disk so full, that
// background work should come first.
func (db *DB) nearlyFull() bool {
	return db.usedBytes() > fullAbove.bytes(db) || db.isFull()
}

func (db *DB) nudge() {
	select {
	case db.wake <- struct{}{}:
	default:
	}
}

// stageBatch numbers the batch and encodes it. Nothing of it is seen by
// readers yet.
func (db *DB) stageBatch(batch []thing.Update) {
	s := &db.stage
	s.rings, s.fresh, s.docs = s.rings[:0], s.fresh[:0], s.docs[:0]
	if cap(s.entries) < len(batch) {
		s.entries = make([]entry, len(batch))
	}
	s.entries = s.entries[:len(batch)]
	db.mu.RLock()
	seq, nextID := db.head, uint32(len(db.rings))
	// By itself, so that the processor can wait for several at a time.
	for i := range batch {
		r := s.slots.Get(&batch[i])
		if r == nil {
			r = db.names[batch[i].Name]
			s.slots.Put(&batch[i], r)
		}
		s.rings = append(s.rings, r)
	}
	for i := range batch {
		u, r := &batch[i], s.rings[i]
		if r == nil {
			r = db.freshRing(u.Name, nextID)
			s.rings[i] = r
		}
		r.next++
		seq++
		u.Seq, u.ThingSeq = seq, r.next
		e := &s.entries[i]
		*e = entry{seq: seq, thingSeq: r.next, received: u.Received, ts: u.TS, id: r.id, data: u.Data}
		if u.Doc != nil {
			if e.doc = db.docCode(u.Doc, int(nextID)); e.doc == docInline {
				e.inline = u.Doc
			}
		}
	}
	db.mu.RUnlock()
	db.encodeStaged()
}

// freshRing gives the ring of a Thing that this batch brings; few batches
// bring any.
func (db *DB) freshRing(name thing.Name, nextID uint32) *ring {
	s := &db.stage
	if r := s.freshByName[name]; r != nil {
		return r
	}
	if s.freshByName == nil {
		s.freshByName = make(map[thing.Name]*ring)
	}
	r := &ring{id: nextID + uint32(len(s.fresh)), name: name}
	r.fk.Store(1)
	db.limitsOf(r)
	s.fresh = append(s.fresh, r)
	s.freshByName[name] = r
	return r
}

// docCode gives the code of a documentation URL, and an id to a new one
// that is short while the table has room.
func (db *DB) docCode(doc []byte, things int) uint32 {
	if id, ok := db.docs.ids[string(doc)]; ok {
		return id + docIDs
	}
	n := len(db.docs.byID) + len(db.stage.docs)
	if len(doc) > maxDocBytes || n >= docBudget(things) {
		return docInline
	}
	id := uint32(n)
	db.docs.ids[string(doc)] = id
	db.stage.docs = append(db.stage.docs, bytes.Clone(doc))
	return id + docIDs
}

// encodeStaged makes log records of the staged entries: as large as a block,
// which they become unchanged if nothing of them was evicted by then.
func (db *DB) encodeStaged() {
	s := &db.stage
	s.records, s.stored = s.records[:0], s.stored[:0]
	parts := (len(s.entries) + blockUpdates - 1) / blockUpdates
	size := (len(s.entries) + parts - 1) / parts
	from, raw := 0, 0
	for i := range s.entries {
		raw += len(s.entries[i].data) + len(s.entries[i].inline)
		if i+1 < len(s.entries) && i+1-from < size && raw < blockRaw {
			continue
		}
		es := s.entries[from : i+1]
		s.raw = appendBatch(s.raw[:0], es)
		begins := len(s.stored)
		s.stored = db.codecs.envelope(s.stored, seqKey(es[0].seq), kindBatch, codecS2, s.raw)
		s.records = append(s.records, stagedRecord{
			from: from, to: i + 1, begins: begins, stored: len(s.stored) - begins,
		})
		from, raw = i+1, 0
	}
}

// commit runs a write transaction, trying again for the grace. The outcome is
// known when it returns. That there is no room for a batch is a refusal of the
// disk; what is none may only be too large. Under appending.
func (db *DB) commit(ctx context.Context, batch bool, fn func(*bbolt.Tx) error) error {
	deadline := time.Now().Add(db.o.Grace)
	said := false
	for {
		db.writing.Lock()
		err := db.update(false, fn)
		db.writing.Unlock()
		db.tried.Store(int64(time.Since(born)))
		if err == nil {
			db.setDegraded(nil)
			return nil
		}
		db.metrics.CommitErrors.Inc()
		if errors.Is(err, errTooLarge) { // the next one may fit
			db.log.Error("a batch of updates is not kept", "err", err)
			return fmt.Errorf("%w: %w", store.ErrNotKept, err)
		}
		var noRoom *noRoomError
		full := errors.As(err, &noRoom)
		if errors.Is(err, berrors.ErrMaxSizeReached) {
			full = true
			err = fmt.Errorf("the history file is as large as --max-db allows: %w", err)
		}
		if full {
			db.nudge()
			switch {
			case db.canGive():
				deadline = time.Now().Add(db.o.Grace) // no refusal: the input waits
			case !batch:
				return err
			}
		}
		if db.degraded.Load() != nil || !time.Now().Before(deadline) {
			db.setDegraded(err)
			db.nextTry = time.Now().Add(retryEvery)
			return db.notKept()
		}
		if !said {
			said = true
			db.log.Warn("a commit failed and is tried again", "err", err, "for", db.o.Grace)
		}
		select {
		case <-time.After(retrySoon):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const (
	retrySoon  = 100 * time.Millisecond // within the grace
	retryEvery = time.Second            // while degraded
	probeAfter = 3 * time.Second        // without a batch to try, while degraded
)

func (db *DB) notKept() error {
	return fmt.Errorf("%w: %s", store.ErrNotKept, *db.degraded.Load())
}

// probe tries a commit while the disk refuses and nothing comes in that
// would: a small one, so it speaks only where no update does.
func (db *DB) probe() {
	if db.stuck.Load() && !db.isFull() || time.Since(born)-time.Duration(db.tried.Load()) < probeAfter {
		return
	}
	db.writing.Lock()
	defer db.writing.Unlock()
	err := db.update(false, func(tx *bbolt.Tx) error {
		if err := db.demandRoom(tx, db.space.wanted.Load()); err != nil {
			return err
		}
		meta := tx.Bucket(bucketMeta)
		return meta.Put(keyHead, bytes.Clone(meta.Get(keyHead)))
	})
	if err == nil {
		db.setDegraded(nil)
	}
}

func (db *DB) setDegraded(err error) {
	was := db.degraded.Load()
	switch {
	case err == nil && was != nil:
		db.degraded.Store(nil)
		db.metrics.Degraded.Set(0)
		db.log.Warn("the disk takes commits again: updates are kept")
	case err != nil:
		why := err.Error()
		db.degraded.Store(&why)
		db.metrics.Degraded.Set(1)
		if was == nil {
			db.log.Error("the disk refuses commits: updates are published without being kept", "err", err)
		}
	}
}

// putStaged is the transaction of one batch.
func (db *DB) putStaged(tx *bbolt.Tx) error {
	s := &db.stage
	if err := db.demandRoom(tx, db.stagedPages()); err != nil {
		return err
	}
	meta := tx.Bucket(bucketMeta)
	if len(s.fresh)+len(s.docs) > 0 {
		if err := db.putNames(tx, s); err != nil {
			return err
		}
	}
	logged := tx.Bucket(bucketLog)
	for _, r := range s.records {
		if err := putPieces(logged, seqKey(s.entries[r.from].seq), s.stored[r.begins:r.begins+r.stored]); err != nil {
			return err
		}
	}
	head := s.entries[len(s.entries)-1].seq
	failpoint.Hit("append.commit")
	return meta.Put(keyHead, sealed(binary.BigEndian.AppendUint64(make([]byte, 0, 12), head)))
}

func (db *DB) putNames(tx *bbolt.Tx, s *stage) error {
	things, docs := tx.Bucket(bucketThings), tx.Bucket(bucketDocs)
	things.FillPercent, docs.FillPercent = 1, 1
	for _, r := range s.fresh {
		if err := things.Put(idKey(r.id), checkedValue(idKey(r.id), []byte(r.name))); err != nil {
			return err
		}
	}
	firstDoc := uint32(len(db.docs.byID))
	for i, doc := range s.docs {
		key := idKey(firstDoc + uint32(i))
		if err := docs.Put(key, checkedValue(key, doc)); err != nil {
			return err
		}
	}
	ids := make([]byte, 0, 12)
	ids = binary.BigEndian.AppendUint32(ids, uint32(len(db.rings)+len(s.fresh)))
	ids = binary.BigEndian.AppendUint32(ids, firstDoc+uint32(len(s.docs)))
	return tx.Bucket(bucketMeta).Put(keyIDs, sealed(ids))
}

// unstage takes back the numbers of a batch that was not kept.
func (db *DB) unstage(batch []thing.Update) {
	s := &db.stage
	for i, r := range s.rings {
		r.next = r.head
		batch[i].Seq, batch[i].ThingSeq = 0, 0
	}
	for _, doc := range s.docs {
		delete(db.docs.ids, string(doc))
	}
	s.freshByName = nil
}

// applyStaged brings memory to the state that was committed, and evicts
// what no longer fits the rings.
func (db *DB) applyStaged(batch []thing.Update) {
	s := &db.stage
	s.freshByName = nil
	s.byBytes = s.byBytes[:0]
	docs := append(db.docs.byID, s.docs...)
	recs := newLogRecords(s, docs)

	db.evicting.Lock()
	db.mu.Lock()
	db.docs.byID = docs
	for _, r := range s.fresh {
		db.rings = append(db.rings, r)
		db.names[r.name] = r
	}
	var byCount uint64
	for i, r := range s.rings {
		u := &batch[i]
		r.head++
		r.note(u, s.entries[i].sharedDoc(docs), u.Doc != nil && wire.Truthy(u.Doc))
		if r.limit.Bytes > 0 {
			db.noteSize(r, s.entries[i].size(docs))
			continue
		}
		fk := r.fk.Load()
		if n := r.limit.Count; n > 0 && r.head-fk+1 > uint64(n) {
			to := r.head - uint64(n) + 1
			byCount += to - fk
			r.fk.Store(to)
		}
	}
	for i := range recs {
		db.records = append(db.records, &recs[i])
		db.noteLogged(&recs[i])
	}
	db.head = s.entries[len(s.entries)-1].seq
	due := db.logDue()
	db.mu.Unlock()

	db.kept.Add(uint64(len(batch)))
	db.countEvicted(metrics.EvictCount, byCount)
	for _, r := range s.byBytes {
		r.unsettled = false
		db.settle(r, 0, metrics.EvictBytes)
	}
	db.evicting.Unlock()
	if due {
		db.nudge()
	}
}

func (db *DB) countEvicted(cause metrics.Evict, n uint64) {
	if n == 0 {
		return
	}
	db.kept.Add(^(n - 1))
	db.evicted.Add(n)
	if db.counting {
		db.metrics.Evicted[cause].Add(float64(n))
	}
}
