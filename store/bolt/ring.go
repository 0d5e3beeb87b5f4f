package bolt

import (
	"bytes"
	"sync/atomic"

	"tbhist/store"
	"tbhist/thing"
)

// ring is what is known of one Thing without reading the disk.
//
// DB.mu guards it but for fk and what its comments say.
type ring struct {
	id   uint32
	name thing.Name
	// next is the thing_seq given last: head, or above while a batch is on
	// its way to disk. The appending goroutine's own.
	next uint64
	// head is the newest committed thing_seq.
	head uint64
	// fk is the first kept thing_seq: older ones are evicted. It only
	// grows, never above head but for a forgotten Thing, and is read by readers without a lock.
	fk atomic.Uint64
	// forgotten is the head seq at which the Thing was forgotten, 0 while it is
	// not. All of it is evicted then, fk being head + 1, and its name is not, or
	// is another ring's.
	forgotten atomic.Uint64

	limit   store.Limit
	ageRule int // index into DB.rules, -1 for none

	// bytes is the size of what is kept; meant only where limit.Bytes is set.
	bytes int64
	// sizes are those of the updates from fk on, as far as they are known;
	// used only where limit.Bytes is set. DB.evicting guards it, and what
	// follows.
	sizes []uint32
	// sizesFrom is the segment in which sizes were found last.
	sizesFrom uint64
	// agedOut is the newest thing_seq whose age evicts it.
	agedOut uint64
	// forced tells that the size of the file evicted some of it, or age before
	// a start: putAged keeps that. The background work's own.
	forced bool
	// unsettled marks a ring in stage.byBytes.
	unsettled bool

	latest latest
	// lost bounds from above the thing_seq, seq and times of the updates
	// whose bytes are gone from the file.
	lost lost
	// unsure, unless 0, tells that more may be gone than lost knows of, up to
	// this thing_seq: the process ended before the next checkpoint.
	unsure uint64
}

type latest struct {
	seq      uint64
	received thing.Micros
	ts       float64
	doc      []byte // what it carried; never written into
	data     []byte
	sticky   []byte // the Thing's documentation URL; never written into
}

type lost struct {
	thingSeq uint64
	seq      uint64
	received thing.Micros
	ts       float64
}

// note makes u the newest update. Its data is copied, into a buffer used again.
// shared is its documentation URL as docTable has it, which never changes; nil
// where it has none, and then that is copied too.
func (r *ring) note(u *thing.Update, shared []byte, truthy bool) {
	l := &r.latest
	l.seq, l.received, l.ts = u.Seq, u.Received, u.TS
	l.data = append(l.data[:0], u.Data...)
	switch {
	case u.Doc == nil:
		l.doc = nil
	case shared != nil:
		l.doc = shared
	case !bytes.Equal(l.doc, u.Doc):
		l.doc = clone(u.Doc)
	}
	if truthy {
		l.sticky = l.doc
	}
}

// docTable is the documentation URLs that have an id. Appended to only;
// a copy of the slice header is a view of its moment.
type docTable struct {
	byID [][]byte
	ids  map[string]uint32 // the appending goroutine's own
}

// maxDocBytes and the count in docBudget bound the table; what does not
// fit stands in the updates themselves.
const maxDocBytes = 512

func docBudget(things int) int { return 16384 + 4*things }

// size is what byte limits count of an entry.
func (e *entry) size(docs [][]byte) uint32 {
	n := len(e.data) + len(e.inline)
	if e.doc >= docIDs && uint64(e.doc-docIDs) < uint64(len(docs)) {
		n += len(docs[e.doc-docIDs])
	}
	return uint32(n)
}

// docBytes gives the documentation URL of an entry, nil for null.
func (e *entry) docBytes(docs [][]byte) []byte {
	if e.doc == docInline {
		return e.inline
	}
	return e.sharedDoc(docs)
}

// sharedDoc gives it if it has an id, nil else.
func (e *entry) sharedDoc(docs [][]byte) []byte {
	if e.doc >= docIDs && uint64(e.doc-docIDs) < uint64(len(docs)) {
		return docs[e.doc-docIDs]
	}
	return nil
}
