// Package store is the seam between the broker and what keeps its history:
// the interface of an engine, its questions and answers, ring rules and
// errors. Engines live in folders below; storetest holds the suite that
// each of them passes.
//
// # Order of calls
//
// An engine is opened by its own constructor and is then ready. Latest may
// be called at any time, and is called once before the first Append to
// restore the directory. Append is called from one goroutine at a time.
// Reading (Read, AsOf, Kept, State) may run from any number of goroutines
// beside it. Close is called once, after the last Append has returned;
// readings under way end with ErrClosed.
package store

import (
	"context"

	"tbhist/thing"
)

// Store is one history.
type Store interface {
	// Append keeps the batch: it returns once the outcome is known, and on
	// success everything in the answer is durable. The answer is what was
	// committed, in the order of Seq, with Seq and ThingSeq set; it is what
	// may be published, and nothing else. An engine of its own file answers
	// with the batch itself; one that shares a history with other brokers
	// may answer with their updates between its own.
	//
	// The engine does not hold on to batch or its bytes after it returned.
	//
	// ErrNotKept: the disk refuses for longer than the grace. No update of
	// the batch is in history nor ever will be. ErrClosed, or the context's
	// error: the same.
	Append(ctx context.Context, batch []thing.Update) (committed []thing.Update, err error)

	// Latest calls yield with the newest kept update of each Thing, in no
	// order, until it returns false. doc is the Thing's documentation URL:
	// the last truthy one that an update carried, nil when there was none.
	// The update is valid during the call only.
	Latest(yield func(u *thing.Update, doc []byte) bool) error

	// Read answers one page of q. yield is called with each matching update
	// in the order of Seq; it returns false to refuse this one, and the
	// page ends before it. The update is valid during the call only.
	//
	// A question that was answered in part goes on with Query.Resume set to
	// Page.Next; other members must be the same as before.
	Read(ctx context.Context, q Query, yield func(*thing.Update) bool) (Page, error)

	// AsOf answers with the directory at a past instant, in byte order of
	// names; yield returns false to refuse an entry and end the answer
	// before it. head is the durable head at the time of reading.
	AsOf(ctx context.Context, q AsOf, yield func(*PastEntry) bool) (head uint64, err error)

	// Kept calls yield with how many updates history holds of each of the
	// names, and when the oldest of these was received. Unknown names have
	// a count of 0.
	Kept(ctx context.Context, names []thing.Name, yield func(i int, updates uint64, oldest thing.Micros)) error

	// State tells what the history is now. Cheap: it reads no disk.
	State() State

	Close() error
}

// State is a moment's view of a history.
type State struct {
	// Epoch is the name of the history: short random hex, new for each file.
	Epoch string
	// Head is the newest durable Seq, 0 when there is none.
	Head uint64
	// Things counts the Things that have an update in history.
	Things int
	// Updates counts the updates that history holds.
	Updates uint64
	// Oldest is when the oldest of them was received, to the precision of a
	// segment; 0 when there is none.
	Oldest thing.Micros
	// Degraded says why the disk refuses commits, "" while it does not.
	Degraded string
}

// By chooses the time that Since and Until speak of.
type By uint8

// The times an update has.
const (
	ByReceived By = iota // the broker's clock at arrival
	ByTS                 // the time the source gave
)

// Query asks for updates. All conditions hold together; filters come first,
// then Last, then Limit.
type Query struct {
	// Name and Tree: the Thing, with all below it if Tree. The zero value
	// asks for the root Thing alone.
	Name thing.Name
	Tree bool
	// Match, when set, narrows Name and Tree further. It is called once per
	// Thing and page, not once per update.
	Match func(thing.Name) bool
	// After excludes updates with Seq <= After; UpTo, unless 0, those with
	// Seq > UpTo.
	After, UpTo uint64
	// Since <= t < Until, each unless nil, in the time By says; in
	// microseconds also for ByTS.
	Since, Until *thing.Micros
	By           By
	// Last, unless 0, asks for the newest so many (by Seq) of each Thing, as
	// of the head when the first page is read.
	Last uint64
	// Limit, unless 0, ends the whole answer after so many updates.
	Limit uint64
	// Resume goes on behind an earlier page. It is that page's Next.
	Resume []byte
}

// Page describes what Read handed to yield.
type Page struct {
	Count uint64
	// First and Last are the Seq of the first and last update of the page,
	// 0 when Count is 0.
	First, Last uint64
	// Head is the durable head when the page was read.
	Head uint64
	// Next is where the answer goes on; nil when it is complete up to Head
	// (or UpTo). It stays good across restarts and rewriting of the file,
	// means nothing to anybody but the engine, and must fit a request: an
	// engine keeps it under 1 MiB.
	Next []byte
	// Limited tells that Limit ended the answer.
	Limited bool
	// Evicted counts the updates in this page's span that history no longer
	// holds; pages add up. It is 0 exactly when there are none; otherwise
	// it is exact if EvictedExact, and else an upper bound.
	Evicted      uint64
	EvictedExact bool
}

// AsOf asks for the directory at a past instant.
type AsOf struct {
	Name thing.Name
	Tree bool
	// At: the last update by Seq with Received <= At counts.
	At thing.Micros
	// After excludes names <= *After, unless nil: where an earlier answer
	// ended.
	After *thing.Name
}

// PastEntry is one Thing of a past directory.
type PastEntry struct {
	// Update is valid during the call only.
	Update thing.Update
	// Doc is the documentation URL in force then, nil for none.
	Doc []byte
	// Unknown tells that the oldest update still held is later than At and
	// that earlier ones were evicted; only Update.Name is set then.
	Unknown bool
}

// ReadBudget is how many bytes of history one page reads at most before it
// ends with what it has, none included.
const ReadBudget = 64 << 20
