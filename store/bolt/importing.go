package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"math"
	"os"

	"tbhist/thing"
)

// ImportOptions say how updates are imported. The zero value will do.
type ImportOptions struct {
	// MaxDB bounds the file in bytes; 0 means DefaultMaxDB, or twice the size of
	// a larger file that is there.
	MaxDB int64
	// Logger may be nil.
	Logger *slog.Logger
	// Progress, unless nil, is told how many updates are on disk.
	Progress func(updates uint64)
}

// ImportInfo tells what was imported, also beside an error.
type ImportInfo struct {
	// Epoch is that of the history.
	Epoch string
	// Updates counts those that are on disk; First and Last are their seqs, 0
	// for none. Limits may have evicted some of them.
	Updates     uint64
	First, Last uint64
}

// importBatch and importBytes are how much is committed at once.
const (
	importBatch = 8192
	importBytes = 4 << 20
)

// Import appends updates to the history at path, in the order given, under new
// numbers and with their ts and received as they are. A file that is not there
// is made. The limits of the file stay in force, and may evict at once what is
// imported. Nobody else may have it open.
//
// It ends at the first error that updates yields, at an update that cannot be
// kept, and with ctx. ImportInfo counts what is on disk, then too: always the
// first so many. The bytes of an update need not outlive the step that yields it.
func Import(ctx context.Context, path string, o ImportOptions, updates iter.Seq2[thing.Update, error]) (info ImportInfo, err error) {
	if o.MaxDB == 0 {
		o.MaxDB = DefaultMaxDB
		if there, err := os.Stat(path); err == nil {
			o.MaxDB = max(o.MaxDB, 2*there.Size())
		} else if !errors.Is(err, fs.ErrNotExist) {
			return info, err
		}
	}
	db, err := openBy(path, Options{MaxDB: o.MaxDB, Logger: o.Logger}, func(db *DB) error { return db.recoverWith(db.applyOld) })
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	info.Epoch = db.State().Epoch
	i := importing{ctx: ctx, db: db, o: o, info: &info}
	for u, wrong := range updates {
		if err := context.Cause(ctx); err != nil {
			return info, err
		}
		if wrong == nil {
			wrong = i.take(&u)
		}
		if wrong != nil {
			// What came before it was good.
			err := errors.Join(wrong, i.commit())
			return info, err
		}
		if len(i.batch) >= importBatch || len(i.bytes) >= importBytes {
			if err := i.commit(); err != nil {
				return info, err
			}
		}
	}
	err = i.commit()
	return info, err
}

// importing is the batch that is gathered.
type importing struct {
	ctx   context.Context
	db    *DB
	o     ImportOptions
	info  *ImportInfo
	batch []thing.Update
	bytes []byte
}

// take takes in a copy of an update.
func (i *importing) take(u *thing.Update) error {
	n := i.info.Updates + uint64(len(i.batch)) + 1
	switch {
	case !thing.ValidName(u.Name):
		return fmt.Errorf("update %d: %q is not a namespace", n, u.Name)
	case len(u.Data) == 0:
		return fmt.Errorf("update %d of %q has no data", n, u.Name)
	case math.IsNaN(u.TS) || math.IsInf(u.TS, 0):
		return fmt.Errorf("update %d of %q has no time: ts is %v", n, u.Name, u.TS)
	}
	c := thing.Update{Name: u.Name, TS: u.TS, Received: u.Received}
	c.Data = i.keep(u.Data)
	if u.Doc != nil {
		c.Doc = i.keep(u.Doc)
	}
	i.batch = append(i.batch, c)
	return nil
}

func (i *importing) keep(b []byte) []byte {
	at := len(i.bytes)
	i.bytes = append(i.bytes, b...)
	return i.bytes[at:len(i.bytes):len(i.bytes)]
}

func (i *importing) commit() error {
	if len(i.batch) == 0 {
		return nil
	}
	done, err := i.db.Append(i.ctx, i.batch)
	if err != nil {
		return err
	}
	info := i.info
	if info.Updates == 0 {
		info.First = done[0].Seq
	}
	info.Updates, info.Last = info.Updates+uint64(len(done)), done[len(done)-1].Seq
	i.batch, i.bytes = i.batch[:0], i.bytes[:0]
	if i.o.Progress != nil {
		i.o.Progress(info.Updates)
	}
	return nil
}
