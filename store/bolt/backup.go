package bolt

import (
	"cmp"
	"context"
	"errors"
	"io"

	"tbhist/internal/failpoint"
)

// BackupInfo tells what a backup holds.
type BackupInfo struct {
	// Epoch is that of the history it was taken of.
	Epoch string
	// Head is the newest seq in it.
	Head uint64
	// Things and Updates are how many it holds.
	Things  int
	Updates uint64
	// Lost is how many more the history was to hold that could not be read: it
	// is damaged.
	Lost uint64
	// Bytes is the length of the stream.
	Bytes int64
}

var (
	// ErrBackupRunning: one backup of a history at a time.
	ErrBackupRunning = errors.New("another backup of this history is being taken: wait until it is done")
	// ErrBackupOverrun: the history needed the room that the backup held back.
	ErrBackupOverrun = errors.New("the history file became nearly full, and updates that the backup had not come to yet had to go: " +
		"write it to somewhere faster, take it when less comes in, or raise --max-db")
	// ErrBackupLost: a backup of a damaged history takes no other's place.
	ErrBackupLost = errors.New("the history is damaged, and a backup from before may be whole: name another file for what is left of it")
)

// Backup writes a backup stream (docs/FORMAT.md) of the history to w while it
// goes on: every update that it holds now, up to its head, and nothing newer.
// What is evicted or forgotten meanwhile is in it. No transaction is open while
// w is written to. progress, unless nil, is told how many bytes of the history
// were read, of how many.
//
// The space of what goes meanwhile is held back until it is copied. That ends
// with ctx at once, though w may block; Backup returns when w does, so whoever
// calls it sets deadlines. The history's own work comes before it.
//
// Errors: ErrBackupRunning, ErrBackupOverrun, store.ErrClosed if the history
// closes, the context's, or w's. What was written then is no backup, and
// WriteBackup refuses it.
func (db *DB) Backup(ctx context.Context, w io.Writer, progress func(done, total int64)) (BackupInfo, error) {
	if err := db.isClosing(ctx); err != nil {
		return BackupInfo{}, err
	}
	if db.backing.Swap(true) {
		return BackupInfo{}, ErrBackupRunning
	}
	defer db.backing.Store(false)
	// One that is only read has no size that it may have.
	c, err := newCopying(ctx, db, segmentBytesOf(cmp.Or(db.o.MaxDB, db.fileStats().size)), true)
	if err != nil {
		return BackupInfo{}, err
	}
	defer c.end()
	defer context.AfterFunc(ctx, c.unpin)()
	out := &streamWriter{w: w}
	if err := out.begin(streamHead{epoch: db.epoch, head: c.head, about: c.expected}); err != nil {
		return BackupInfo{}, err
	}
	if err := c.run(out, func() {
		failpoint.Hit("backup.segment")
		report(progress, c.done, c.total)
	}); err != nil {
		return BackupInfo{}, err
	}
	if err := out.end(streamTotals{things: uint64(c.things), updates: c.copied, kept: c.updates}); err != nil {
		return BackupInfo{}, err
	}
	report(progress, c.total, c.total)
	return BackupInfo{Epoch: db.epoch, Head: c.head, Things: c.things, Updates: c.copied, Lost: lostOf(c.updates, c.copied), Bytes: out.bytes}, nil
}

// lostOf gives how many of the updates that are kept were not copied.
func lostOf(kept, copied uint64) uint64 { return kept - min(kept, copied) }

// Backup is that of DB.
func (r *ReadOnly) Backup(ctx context.Context, w io.Writer, progress func(done, total int64)) (BackupInfo, error) {
	return r.db.Backup(ctx, w, progress)
}
