package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"tbhist/internal/backoff"
	"tbhist/thing"
)

// EventKind tells what an Event is.
type EventKind uint8

// The kinds of events.
const (
	// Updated: an update, from history or live.
	Updated EventKind = iota
	// Gap: updates are missing before this point, because history no longer
	// holds them.
	Gap
	// CaughtUp: all that history had was handed out. Comes once history was
	// read, and again whenever it had to be read anew.
	CaughtUp
	// Disconnected: the broker cannot be reached, and is tried again until
	// it can.
	Disconnected
	// Reconnected: the broker is there again. What it received meanwhile
	// follows.
	Reconnected
	// NewEpoch: the broker has another history file than before, or an
	// older copy of it. All of it that the query asks for follows, from its
	// first update on; seqs begin anew. What the history before it had
	// received and not handed out is not known.
	NewEpoch
)

// Event is one step of Follow. Who only wants the data may look at Updated
// and pass over the rest.
type Event struct {
	Kind EventKind
	// Update is that of Updated. A Seq of 0 means that the disk refused it:
	// it is not kept and never will be.
	Update Update
	// Missing counts the updates of a Gap; it is an upper bound unless
	// MissingExact.
	Missing      uint64
	MissingExact bool
	// Thing is whose updates a Gap is of; nil if that is not known.
	Thing *thing.Name
	// Epoch is the name of the history that the event is of. Together with
	// the Seq of an update it says where to go on another time: see
	// Query.After and Query.Epoch.
	Epoch string
	// Err is why Disconnected.
	Err error
	// More tells that another event follows without waiting for the feed: a
	// program that buffers its output need not flush now.
	More bool
}

// FollowOption changes what Follow and Feed do.
type FollowOption func(*followOptions)

type followOptions struct{ wait bool }

// WaitForBroker has Follow and Feed wait for a broker that is not there when
// they begin, rather than end with an error.
func WaitForBroker() FollowOption {
	return func(o *followOptions) { o.wait = true }
}

func followOptionsOf(options []FollowOption) (o followOptions) {
	for _, option := range options {
		option(&o)
	}
	return o
}

// Follow yields history and then what comes in, without a hole or a double
// between them, in the order of Seq, for ever: it ends when ctx does, with
// its error, or when the loop is left. Query.Until and Query.Limit do not
// count; Query.Last counts for history only.
//
// A connection that is lost is made again, and what came meanwhile is read
// from history. The loop may take its time: beyond a bound nothing is kept
// in memory for it, but read from history later. What history no longer
// holds is told as a Gap, never passed over.
//
// Until history has answered for the first time, any error ends Follow: as
// a NoBrokerError if there is no broker. WaitForBroker has it try on. Later
// it ends with an error only if the broker refuses the question as such.
//
// Where Query.Epoch is given and the broker has another history, NewEpoch
// comes first.
//
// Updates that the disk refused are in no history: those that come while
// there is no connection are lost, and nobody can count them.
func (c *Client) Follow(ctx context.Context, q Query, options ...FollowOption) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := newFollower(c, q, followOptionsOf(options), func(e Event) bool { return yield(e, nil) })
		if err := f.run(ctx); !errors.Is(err, errStop) {
			yield(Event{}, err)
		}
	}
}

// How (docs/PROTOCOL.md, History service): the live feed is subscribed to,
// and held. Its first heartbeat proves that the subscription is at work.
// From then on, what history has when it is read to its end, and what comes
// on the feed beyond that, is everything. So it is after each reconnect, and
// history is read again whenever the feed may have passed something over:
// when a heartbeat tells of a skip, on a jump of ThingSeq, and when the hold
// was too small.

// follower is the state of one Follow.
type follower struct {
	client *Client // finds the broker
	q      Query
	since  Bound // Query.Since by the broker's clock, if it was relative
	wait   bool  // for the first broker
	yield  func(Event) bool

	things   *continuity
	answered bool   // history has answered once
	down     bool   // Disconnected was told
	epoch    string // of the history that what follows is about
	fresh    bool   // nothing of it was asked yet
	head     uint64 // the newest seq that it is known to have
	// pos: every update that matches and has a seq up to this was handed
	// out, or reported missing.
	pos   uint64
	asked *round          // being read, over lost connections too
	retry backoff.Backoff // of connections
	again pacer           // of questions to history

	// Of one connection to the feed:
	broker  *Client  // where it leads to
	hold    *hold    // what came on it
	history *history // beside it, while it is likely to be needed
	read    uint64   // pos when history was last read to its end
	gapped  uint64   // updates reported missing since
}

func newFollower(c *Client, q Query, o followOptions, yield func(Event) bool) *follower {
	q.Until, q.Limit = Bound{}, 0
	if q.ByTS {
		q.Since = q.Since.absolute(time.Now())
	}
	f := &follower{
		client: c, q: q, wait: o.wait, yield: yield, epoch: q.Epoch, fresh: true, pos: q.After,
		retry:  newBackoff(),
		again:  newPacer(),
		things: newContinuity(!q.Since.set && q.After == 0 && q.Last == 0),
	}
	if q.Epoch != "" {
		f.head = q.After
	}
	return f
}

func (f *follower) emit(e Event) error {
	e.Epoch = f.epoch
	if !f.yield(e) {
		return errStop
	}
	return nil
}

func (f *follower) gap(missing uint64, exact bool, of *thing.Name) error {
	if missing == 0 {
		return nil
	}
	f.gapped += missing
	return f.emit(Event{Kind: Gap, Missing: missing, MissingExact: exact, Thing: of, More: true})
}

// byTS: updates are missing from the answer because of their own time, and
// so the numbers of those that are there say nothing.
func (f *follower) byTS() bool { return f.q.ByTS && f.q.Since.set }

// matches tells whether a live update is asked for: the broker filters by
// name, and all but the source's time is later than what history gave.
func (f *follower) matches(u *Update) bool {
	return !f.byTS() || thing.MicrosOfSeconds(u.TS) >= f.q.Since.at
}
