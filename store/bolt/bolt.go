// Package bolt is the engine that keeps a history in one bbolt file.
//
// Batches are appended to a log; every ~32,768 updates the log becomes a
// segment: blocks in the order of seq with an index by Thing. A ring is a
// view of that: an update is in history while its thing_seq is at least its
// ring's first kept one, so that evicting is moving one number. Background
// work drops and rewrites segments of which little is kept, and writes the
// directory down now and then (a checkpoint), so that a start reads that
// and what came after it. docs/FORMAT.md has the bytes.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"tbhist/metrics"
	"tbhist/store"
	"tbhist/thing"
)

// Options say how a history is kept. The zero value keeps everything up to
// the default size.
type Options struct {
	// Rules are the ring limits; none means no limit but MaxDB.
	Rules []store.Rule
	// MaxDB bounds the file in bytes; 0 means DefaultMaxDB. It also is the
	// size of the mapping on 64-bit systems.
	MaxDB int64
	// Grace is how long commits are tried before a batch is given up;
	// 0 means 2 s (docs/PROTOCOL.md, Live feed).
	Grace time.Duration
	// TrustClock evicts by age at once. Unset, age evicts nothing for the
	// first 10 minutes and for an hour after the wall clock stepped.
	TrustClock bool
	// Logger and Metrics may be nil.
	Logger  *slog.Logger
	Metrics *metrics.Store
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// mostBuried is of how many forgotten Things it is remembered what they had,
	// for answers that count what is evicted: 100,000 unless a test makes it
	// small. Of older ones the id alone stays.
	mostBuried int
	// readBudget is store.ReadBudget unless a test makes it small.
	readBudget int64
	// lazyAge leaves limits by age to Maintain, for tests whose clock jumps.
	lazyAge bool
}

// MinMaxDB is the least that MaxDB may be: below it the log and one segment
// have no room beside each other.
const MinMaxDB = 64 << 20

// DB is one open history. It implements store.Store.
//
// Lock order: appending, maintaining, writing, evicting, layout, mu.
type DB struct {
	path    string
	o       Options
	log     *slog.Logger
	metrics *metrics.Store
	codecs  *codecs
	readers sync.Pool // of *reader
	rules   *store.Rules

	epoch   string
	created time.Time
	opened  string // what Summary says

	// appending: one Append at a time.
	appending sync.Mutex
	stage     stage
	buried    []uint32 // ids of forgotten Things that have a ring, in the order of forgetting
	// maintaining: one round of background work at a time.
	maintaining sync.Mutex
	maint       maintenance
	// writing: one write transaction at a time, and mending the file after
	// one that failed.
	writing sync.Mutex
	// evicting: moving of any ring's fk, and ring.sizes.
	evicting sync.Mutex
	// layout is held for reading while a read transaction is begun, and for
	// writing while segments are replaced or the file is opened anew, so that
	// a transaction and the snapshot of segs and records fit each other.
	layout sync.RWMutex
	file   *file // nil while it could not be opened anew
	// lastSynced is file.synced, while there is no file.
	lastSynced uint64
	mending    mending
	space      space
	closed     bool

	// mu guards what follows. The slices are appended to or replaced, never
	// written into, so that a copied header stays a view of its moment.
	mu    sync.RWMutex
	names map[thing.Name]*ring
	rings []*ring // by Thing id; nil for an id without one
	// dead are the ids of forgotten Things with what is known of them, nil for
	// nothing: during a start alone.
	dead map[uint32]*grave
	// mostIDs is how many ids such a file can have given: during a start alone.
	mostIDs uint64
	docs    docTable
	segs    []*segment
	records []*logRecord
	logged  unit   // sums over records: count, bytes, span
	head    uint64 // newest durable seq
	// counting is off while a start works out again what was counted before.
	counting bool

	kept     atomic.Uint64 // updates in history
	evicted  atomic.Uint64 // updates evicted, ever
	degraded atomic.Pointer[string]
	nextTry  time.Time // while degraded; under appending
	// tried is when a batch was last tried to commit, in nanoseconds since
	// born, which no clock that is set can move.
	tried atomic.Int64
	// failing is since when background work fails, nil while it does not.
	failing atomic.Pointer[failure]
	// stuck tells that background work found nothing more to give back of a
	// nearly full file.
	stuck atomic.Bool
	// suspect tells that every page of the file is to be looked at when it is
	// opened next; inspected is when that was asked for last, from born on
	// and one more, 0 for never.
	suspect   atomic.Bool
	inspected atomic.Int64

	closeBegun atomic.Bool

	// backing tells that a backup is being taken; pin is what it holds back.
	backing atomic.Bool
	pin     atomic.Pointer[pin]

	closing  chan struct{}
	wake     chan struct{} // the log grew to a segment
	room     chan struct{} // the log became shorter
	finished chan struct{} // the background goroutine ended
}

var _ store.Store = (*DB)(nil)

// Open opens the history at path, making it if there is none, and starts
// its background work; Close ends both. Errors: store.ErrLocked,
// store.ErrNotHistory, a *migrations.NewerError, or what the system says.
func Open(path string, o Options) (*DB, error) {
	return openBy(path, o, (*DB).recover)
}

// openBy is Open by recover.
func openBy(path string, o Options, recover func(*DB) error) (*DB, error) {
	if o.MaxDB == 0 {
		o.MaxDB = DefaultMaxDB
	}
	if o.MaxDB < MinMaxDB {
		return nil, fmt.Errorf("a history of %d bytes at most is too small: at least %d are needed", o.MaxDB, MinMaxDB)
	}
	if int64(int(o.MaxDB)) != o.MaxDB {
		return nil, fmt.Errorf("a history of %d bytes is more than a 32-bit system can map", o.MaxDB)
	}
	db, err := newDB(path, o)
	if err != nil {
		return nil, err
	}
	if err := db.opening(func() error { return recover(db) }); err != nil {
		return nil, err
	}
	go db.maintain()
	return db, nil
}

// newDB makes a DB of which nothing is open yet.
func newDB(path string, o Options) (*DB, error) {
	if o.Grace == 0 {
		o.Grace = 2 * time.Second
	}
	if o.mostBuried == 0 {
		o.mostBuried = 100_000
	}
	if o.readBudget == 0 {
		o.readBudget = store.ReadBudget
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewStore(nil)
	}
	rules, err := store.NewRules(o.Rules)
	if err != nil {
		return nil, err
	}
	codecs, err := newCodecs()
	if err != nil {
		return nil, err
	}
	db := &DB{
		path: path, o: o, log: o.Logger, metrics: o.Metrics, codecs: codecs, rules: rules,
		names:    make(map[thing.Name]*ring),
		docs:     docTable{ids: make(map[string]uint32)},
		closing:  make(chan struct{}),
		wake:     make(chan struct{}, 1),
		room:     make(chan struct{}, 1),
		finished: make(chan struct{}),
	}
	db.readers.New = func() any { return &reader{codecs: codecs, report: db.damage} }
	return db, nil
}

// opening opens the file by recover, and lets go of everything if it fails.
func (db *DB) opening(recover func() error) error {
	err := recover()
	if err == nil {
		return nil
	}
	if db.file != nil {
		err = errors.Join(err, db.file.close())
	}
	db.mending.letGo()
	db.codecs.close()
	return err
}

// DefaultMaxDB is MaxDB where none is given: what a 32-bit system can map,
// or 2 GiB.
const DefaultMaxDB = (2<<30)*(math.MaxInt>>62) + (768<<20)*(1-math.MaxInt>>62)

// Summary says in a few words what Open found.
func (db *DB) Summary() string { return db.opened }

// State implements store.Store.
func (db *DB) State() store.State {
	db.mu.RLock()
	defer db.mu.RUnlock()
	s := store.State{Epoch: db.epoch, Head: db.head, Things: len(db.names), Updates: db.kept.Load()}
	oldest := thing.Micros(math.MaxInt64)
	for _, seg := range db.segs {
		if seg.count > 0 { // clocks step back: any of them may hold it
			oldest = min(oldest, seg.span.minReceived)
		}
	}
	if db.logged.count > 0 {
		oldest = min(oldest, db.logged.span.minReceived)
	}
	if oldest != math.MaxInt64 {
		s.Oldest = oldest
	}
	if why := db.degraded.Load(); why != nil {
		s.Degraded = *why
	}
	return s
}

// Latest implements store.Store.
func (db *DB) Latest(yield func(u *thing.Update, doc []byte) bool) error {
	if db.isClosingNow() {
		return store.ErrClosed
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	for _, r := range db.rings {
		if r == nil || r.head == 0 || r.gone() {
			continue
		}
		u := r.latest.update(r)
		if !yield(&u, r.latest.sticky) {
			return nil
		}
	}
	return nil
}

func (l *latest) update(r *ring) thing.Update {
	return thing.Update{
		Name: r.name, Data: l.data, Doc: l.doc, TS: l.ts, Received: l.received,
		Seq: l.seq, ThingSeq: r.head,
	}
}

// Close makes a segment of the log, writes a checkpoint and closes the
// file. What cannot be written then is found in the log at the next start.
func (db *DB) Close() error {
	if db.closeBegun.Swap(true) {
		return store.ErrClosed
	}
	close(db.closing) // an Append that waits for room holds appending
	db.appending.Lock()
	defer db.appending.Unlock()
	<-db.finished
	db.maintaining.Lock()
	if err := db.settleForClose(); err != nil {
		db.log.Warn("the history is not tidied up for the next start, which will take longer", "err", err)
	}
	db.maintaining.Unlock()

	db.writing.Lock()
	defer db.writing.Unlock()
	db.layout.Lock()
	defer db.layout.Unlock()
	db.closed = true
	var err error
	if db.file != nil {
		err = db.file.close()
		db.file = nil
	}
	db.mending.letGo()
	db.codecs.close()
	if err != nil {
		return fmt.Errorf("closing the history %s: %w", db.path, err)
	}
	return nil
}

// isClosing ends long readings.
func (db *DB) isClosing(ctx context.Context) error {
	select {
	case <-db.closing:
		return store.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	default:
		return nil
	}
}

// limitsOf fills in which limits hold for a ring.
func (db *DB) limitsOf(r *ring) {
	if r.gone() {
		r.limit, r.ageRule = store.Limit{}, -1
		return
	}
	r.limit, r.ageRule = db.rules.For(r.name)
}
