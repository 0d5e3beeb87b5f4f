package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	berrors "go.etcd.io/bbolt/errors"

	"tbhist/store"
)

// CheckReport is what Check found.
type CheckReport struct {
	// Things and Updates are what history holds, by its limits.
	Things  int
	Updates uint64
	// Segments counts segments that hold updates, Records the readable records
	// of every bucket.
	Segments int
	Records  uint64
	// Problems are the first MaxProblems of what is wrong, none for a whole
	// file; More counts those beyond.
	Problems []Problem
	More     uint64
}

// Problem is one thing that is wrong with a history.
type Problem struct {
	// Where names the place in words of docs/FORMAT.md: a bucket and key, or a
	// page of the file.
	Where string
	// Seq is the first update concerned, 0 where that is unknown.
	Seq uint64
	// What says what is wrong, in one line.
	What string
}

// MaxProblems is how many problems a CheckReport lists.
const MaxProblems = 1000

// Check reads everything in the history at path and holds it against itself:
// the file's pages, every record, and what records say of one another. It
// changes nothing, and survives what it finds. progress, unless nil, is called
// now and then with how many bytes of total were looked at. Memory follows
// Things, and the pages of the file by three bits each.
//
// What is wrong with the history is in the report. Errors are for what could
// not be checked: store.ErrLocked while a broker has it open,
// store.ErrNotHistory, a *migrations.NewerError, the context's, or what the
// system says.
func Check(ctx context.Context, path string, progress func(done, total int64)) (*CheckReport, error) {
	if _, err := statHistory(path); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := awaitLock(f, false, readOnlyLockWait); errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", path, store.ErrLocked)
	} else if err != nil {
		return nil, err
	}
	codecs, err := newCodecs()
	if err != nil {
		return nil, err
	}
	defer codecs.close()
	c := &check{ctx: ctx, report: &CheckReport{}, progress: progress, r: &reader{codecs: codecs}, other: &reader{codecs: codecs}}
	if err := c.run(f, path); err != nil {
		return nil, err
	}
	return c.report, nil
}

// check is a check on its way.
type check struct {
	ctx      context.Context
	report   *CheckReport
	progress func(done, total int64)
	r, other *reader

	pages *pages // of the walk over everything
	look  *pages // of looking something up meanwhile
	trees []tree

	db *DB // what a start makes of the file; nil if it can make nothing
	meta
	heads  []checkedHead
	things []checkedThing // by id
	seg    checkedSegment
	logged uint64 // the seq up to which the log was checked
	next   int64  // of pages.read: when to call progress
}

// problem notes what is wrong.
func (c *check) problem(where string, seq uint64, format string, args ...any) {
	if len(c.report.Problems) == MaxProblems {
		c.report.More++
		return
	}
	c.report.Problems = append(c.report.Problems, Problem{Where: where, Seq: seq, What: fmt.Sprintf(format, args...)})
}

// wrong notes an error.
func (c *check) wrong(where string, err error) {
	var damage *store.CorruptionError
	if errors.As(err, &damage) {
		c.problem(damage.Where, damage.Seq, "%v", damage.Err)
		return
	}
	c.problem(where, 0, "%v", err)
}

func (c *check) run(f *os.File, path string) error {
	p, err := openPages(f)
	if errors.Is(err, errNoMeta) {
		return notHistory(path)
	}
	if err != nil {
		return err
	}
	switch fresh, err := p.known(); {
	case errors.Is(err, store.ErrDamaged):
		c.problem("root page", 0, "%v", err)
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case fresh:
		return notHistory(path)
	}
	if p.spoiled {
		c.problem("meta pages", 0, "one of the two is damaged: the newest commit may be gone")
	}
	c.pages = p
	if c.look, err = openPages(f); err != nil {
		return err
	}
	if c.trees, err = c.look.trees(); err != nil {
		return err
	}
	if err := c.start(path); err != nil {
		return err
	}
	if c.db != nil {
		defer func() { _ = (&ReadOnly{c.db}).Close() }()
	}
	c.checkSmall()
	if err := c.checkAll(); err != nil {
		return err
	}
	c.checkThings()
	return context.Cause(c.ctx)
}

// start brings memory to the state of the head as a start would, and notes
// what that complains of.
func (c *check) start(path string) error {
	said := &sayings{c: c}
	ro, err := OpenReadOnly(path, Options{Logger: slog.New(said)})
	switch {
	case err == nil:
		c.db = ro.db
		state := ro.State()
		c.report.Things, c.report.Updates = state.Things, state.Updates
	case errors.Is(err, store.ErrDamaged), errors.Is(err, errPanic), errors.Is(err, store.ErrNotHistory):
		c.problem("file", 0, "it cannot be opened: %v", err)
	default:
		var damage *store.CorruptionError
		if !errors.As(err, &damage) {
			return err
		}
		c.wrong("file", err)
	}
	return nil
}

// sayings takes the damage that a start logs.
type sayings struct{ c *check }

// Enabled implements slog.Handler.
func (s *sayings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

// Handle implements slog.Handler.
func (s *sayings) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			s.c.wrong("file", err)
		}
		return true
	})
	return nil
}

// WithAttrs implements slog.Handler.
func (s *sayings) WithAttrs([]slog.Attr) slog.Handler { return s }

// WithGroup implements slog.Handler.
func (s *sayings) WithGroup(string) slog.Handler { return s }

// untilDone reads while its context goes on, so that a walk over very many
// pages comes to its end soon.
type untilDone struct {
	ctx context.Context
	r   io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (u untilDone) ReadAt(b []byte, at int64) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.ReadAt(b, at)
}

// checkAll looks at every page, and at what the large buckets hold.
func (c *check) checkAll() error {
	assemble := make([]assembler, 0, len(c.trees))
	var streams []func(k, v []byte)
	for _, t := range c.trees {
		var handle func(key []byte, raw []byte, size int, err error)
		switch t.name {
		case string(bucketBlocks):
			handle = c.block
		case string(bucketIndex):
			handle = c.chunk
		case string(bucketLog):
			handle = c.record
		}
		if handle == nil {
			streams = append(streams, nil)
			continue
		}
		assemble = append(assemble, assembler{c: c, bucket: t.name, handle: handle})
		streams = append(streams, assemble[len(assemble)-1].feed)
	}
	c.pages.r = untilDone{c.ctx, c.pages.r}
	s, err := takeSurvey(c.pages, true, func(tree int, _, _ []byte, _ uint64, es []element) {
		if c.ctx.Err() != nil {
			return
		}
		c.tell()
		if feed := streams[tree]; feed != nil {
			for i := range es {
				feed(es[i].key, es[i].value)
			}
		}
	})
	if err != nil {
		c.wrong("root page", err)
		return nil
	}
	for i, t := range c.trees {
		if t.root != 0 || streams[i] == nil {
			continue
		}
		es, _ := page(t.inline).elements(nil)
		for j := range es {
			streams[i](es[j].key, es[j].value)
		}
	}
	for i := range assemble {
		assemble[i].end()
	}
	c.endSegment()
	for _, err := range s.said() {
		c.wrong("file", err)
	}
	return nil
}

func (c *check) tell() {
	if c.progress == nil || c.pages.read < c.next {
		return
	}
	total := int64(c.pages.meta.high) * pageSize
	c.next = c.pages.read + total/200
	c.progress(min(c.pages.read, total), total)
}

// each walks a small bucket.
func (c *check) each(bucket []byte, yield func(k, v []byte)) {
	for _, t := range c.trees {
		if t.name != string(bucket) {
			continue
		}
		if t.root == 0 {
			es, _ := page(t.inline).elements(nil)
			for i := range es {
				yield(es[i].key, es[i].value)
			}
			return
		}
		w := treeWalk{leaves: true, from: []byte{}, bad: func(_, _ []byte, _ uint64, _ int, _ error) {}}
		w.leaf = func(_, _ []byte, _ uint64, es []element) {
			for i := range es {
				yield(es[i].key, es[i].value)
			}
		}
		c.look.walk(&w, t.root)
	}
}

// assembler puts the records of one bucket together of their pieces.
type assembler struct {
	c      *check
	bucket string
	handle func(key, raw []byte, size int, err error)

	key    []byte
	joined []byte
	total  int
	piece  int
	passed bool // what comes of this record is passed over
	again  bool // records are counted elsewhere
}

func (a *assembler) feed(k, v []byte) {
	if want := keysOf[a.bucket]; len(k) < pieceNoBytes || (want != 0 && len(k) != want) {
		a.c.problem(fmt.Sprintf("%s %x", a.bucket, k), 0, "a key of %d bytes", len(k))
		return
	}
	key, no := k[:len(k)-pieceNoBytes], int(k[len(k)-2])<<8|int(k[len(k)-1])
	if string(key) != string(a.key) {
		a.end()
		a.key = append(a.key[:0], key...)
		a.joined, a.piece, a.passed = a.joined[:0], 0, false
		total, err := storedLength(v)
		if no != 0 {
			err = errors.New("piece 0 of a record is missing")
		}
		if a.total = total; err != nil {
			a.fail(err)
		}
	}
	if a.passed {
		return
	}
	if no != a.piece || len(a.joined)+len(v) > a.total {
		a.fail(fmt.Errorf("piece %d of a record is missing", a.piece))
		return
	}
	a.piece++
	if a.joined = append(a.joined, v...); len(a.joined) == a.total {
		r := a.c.r
		if a.again {
			r = a.c.other // the one that a block is in
		}
		raw, err := r.unpack([]byte(a.bucket), a.key, a.joined)
		if err == nil && kindOf[a.bucket] != 0 && a.joined[1] != kindOf[a.bucket] {
			err = damaged([]byte(a.bucket), a.key, errEnvelope)
		}
		if err == nil && !a.again {
			a.c.report.Records++
		}
		a.passed = true
		a.handle(a.key, raw, a.total, err)
	}
}

func (a *assembler) fail(err error) {
	a.passed = true
	a.handle(a.key, nil, 0, damaged([]byte(a.bucket), a.key, err))
}

// end is called behind the last piece of a record.
func (a *assembler) end() {
	if len(a.key) > 0 && !a.passed {
		a.fail(fmt.Errorf("piece %d of a record is missing", a.piece))
	}
}
