package bolt

import (
	"errors"
	"sync/atomic"
)

// pin holds back the space of what a backup has yet to copy: segments that were
// there when it began. The log of that moment it has in memory.
type pin struct {
	// upTo is the last seq of those segments, kept what was kept of them.
	upTo uint64
	kept firstKept
	// copied is the seq up to which the backup needs nothing of the file any more.
	copied atomic.Uint64
	// released tells that the history needs the room: the pin holds nothing
	// any more. taken tells that something went since that was not copied yet.
	released, taken atomic.Bool
}

// covers tells whether the backup has yet to copy something of the range. nil
// covers nothing.
func (p *pin) covers(first, last uint64) bool {
	return p != nil && first <= p.upTo && min(last, p.upTo) > p.copied.Load()
}

// holds tells whether a segment must stay as it is.
func (p *pin) holds(seg *segment) bool { return p.covers(seg.first, seg.last) && !p.released.Load() }

// needs tells whether anything that goes was kept when the backup began.
func (p *pin) needs(gone *losses) bool {
	for i, id := range gone.ids {
		if uint64(id) < uint64(len(p.kept)) && gone.lost[i].thingSeq >= p.kept[id] {
			return true
		}
	}
	return false
}

// errPinned: a backup that began meanwhile needs what was about to go.
var errPinned = errors.New("held back for a backup")

// mayGo tells whether what goes of the range may go; losing it is noted by a
// pin that was released. Under layout, so that no backup begins meanwhile.
func (db *DB) mayGo(first, last uint64, gone *losses) error {
	p := db.pin.Load()
	if !p.covers(first, last) || !p.needs(gone) {
		return nil
	}
	if !p.released.Load() {
		return errPinned
	}
	p.taken.Store(true)
	return nil
}

// releasePin lets go of what a backup holds back, if the history needs the
// room: its own work comes first.
func (db *DB) releasePin() {
	p := db.pin.Load()
	if p == nil || p.released.Load() || !db.pressed() {
		return
	}
	p.released.Store(true)
	db.log.Warn("the history needs the room that a backup holds back: the backup fails if it has not copied that yet")
}

// pressed tells whether the file is about to hold the input back, or the disk
// refuses already.
func (db *DB) pressed() bool {
	return db.degraded.Load() != nil || db.failing.Load() != nil ||
		db.usedBytes() > (evictAbove.bytes(db)+fullAbove.bytes(db))/2
}
