package bolt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"tbhist/internal/failpoint"
	"tbhist/store"
)

// CompactInfo tells what compacting gave: the size of the file in bytes.
type CompactInfo struct{ Before, After int64 }

// compactSuffix names the new file while it is written.
const compactSuffix = ".compact"

// Compact writes what is kept of the history at path into a new file and puts
// that in the place of the old one. Epoch and numbers stay; but where the newest
// commit may be gone, the next start gives it a new epoch. Nobody else may have
// the history open. Whenever it is interrupted, the whole old file is there, or
// the whole new one. progress, unless nil, is told how many bytes of the old one
// were read, of how many.
//
// Errors: store.ErrLocked, store.ErrNotHistory, too little free space, damage
// (a *store.CorruptionError: the old file is left as it is), the context's, or
// what the system says.
func Compact(ctx context.Context, path string, progress func(done, total int64)) (info CompactInfo, err error) {
	if path, err = resolve(path); err != nil {
		return info, err
	}
	db, err := openToCopy(path)
	if err != nil {
		return info, err
	}
	// Its lock is held until the new file is in its place.
	defer func() { err = errors.Join(err, (&ReadOnly{db}).Close()) }()
	if err := db.countAll(ctx); err != nil {
		return info, err
	}
	old, err := db.file.os.Stat()
	if err != nil {
		return info, err
	}
	info.Before = old.Size()
	c, err := newCopying(ctx, db, segmentBytesOf(info.Before), false)
	if err != nil {
		return info, err
	}
	defer c.end()
	// Of a damaged meta page the new file has no trace.
	if doubt, err := db.doubtEpoch(); err != nil {
		return info, err
	} else if doubt.spoiled {
		c.pairs = append(c.pairs, copyMark(time.Now()))
	}
	if err := wantSpace(filepath.Dir(path), "compacting "+path, c.expected); err != nil {
		return info, err
	}
	n, err := makeFile(path + compactSuffix)
	if err != nil {
		return info, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.discard())
		}
	}()
	if err := c.run(n, func() {
		failpoint.Hit("compact.segment")
		report(progress, c.done, c.total)
	}); err != nil {
		return info, err
	}
	if info.After, err = n.finish(); err != nil {
		return info, err
	}
	if c.copied != c.updates {
		return info, &store.CorruptionError{Where: path, Err: fmt.Errorf("%d updates could be read where there are to be %d: the file was left as it is", c.copied, c.updates)}
	}
	if err := wantSame(n.path, c); err != nil {
		return info, err
	}
	if err := keepOwner(n.path, old); err != nil {
		return info, err
	}
	if err := c.stopped(); err != nil {
		return info, err
	}
	failpoint.Hit("compact.swap")
	if err := n.moveTo(path); err != nil {
		return info, err
	}
	report(progress, c.total, c.total)
	return info, nil
}

// segmentBytesOf is how large the segments of a file may be, of which nobody
// says how large it may become.
func segmentBytesOf(size int64) int64 { return min(segmentRaw, max(MinMaxDB, size)/16) }

func report(progress func(done, total int64), done, total int64) {
	if progress != nil {
		progress(min(done, total), total)
	}
}

// countAll counts what is live of each segment of a history that nobody
// writes to.
func (db *DB) countAll(ctx context.Context) error {
	return db.view(func(s *snapshot) error {
		kept := s.firstKept()
		for _, seg := range s.segs {
			if err := db.isClosing(ctx); err != nil {
				return err
			}
			if err := s.countLive(seg, kept); err != nil {
				s.damage(err) // all of it counts then
			}
		}
		return nil
	})
}

// wantSame opens a finished copy and holds it against what was copied.
func wantSame(path string, c *copying) error {
	r, err := OpenReadOnly(path, Options{})
	if err != nil {
		return err
	}
	is, evicted := r.State(), r.db.evicted.Load()
	if err := r.Close(); err != nil {
		return err
	}
	is.Oldest = 0
	if want := c.state(); is != want || evicted != c.evicted {
		return fmt.Errorf("the copy has %+v and %d evicted, the history %+v and %d", is, evicted, want, c.evicted)
	}
	return nil
}
