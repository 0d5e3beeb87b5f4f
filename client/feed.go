package client

import (
	"context"
	"errors"
	"iter"

	"tbhist/thing"
)

// FeedQuery says what to take of the live feed. The zero value takes all
// updates.
type FeedQuery struct {
	// Name is the Thing, with all Things below it unless Alone; the broker
	// sends nothing else.
	Name  thing.Name
	Alone bool
	// Snapshots asks for snapshots too: one at once, then every 15 s or as
	// the broker is set.
	Snapshots bool
}

// FeedMessage is one message of the live feed, or what became of the
// connection. What it has stands in this order: Missed comes before Updates.
type FeedMessage struct {
	// Disconnected is why the broker cannot be reached; nil in all other
	// messages. It is tried again until it can.
	Disconnected error
	// Reconnected: the broker is there again.
	Reconnected bool
	// NewEpoch: it has another history file than before, or an older copy of
	// it, and seqs begin anew.
	NewEpoch bool
	// Missed counts updates that did not come, mostly because there was no
	// connection, as far as the numbers of those that did come prove it.
	// History may have them.
	Missed uint64
	// Skipped counts updates that this connection would have had and was
	// moved past, because it read too slowly. History may have them. Of a
	// subtree, some may have been counted as Missed before.
	Skipped uint64
	// Updates holds one update, or the entries of a snapshot that were
	// asked for, or nothing. An update that the disk refused has a Seq
	// of 0: it is not kept and never will be.
	Updates []Update
	// Snapshot tells that Updates are entries of a snapshot. Their Doc is
	// the documentation URL in force.
	Snapshot bool
	// Epoch is the name of the broker's history.
	Epoch string
	// More tells that the next message is here already: a program that
	// buffers its output need not flush now.
	More bool
}

// Feed yields the live feed from now on, for ever: it ends when ctx does,
// with its error, or when the loop is left. A connection that is lost is
// made again. What was published meanwhile, or before the subscription was
// at work, is not in it, and is counted where that can be: Follow has it.
//
// Until the first message has come any error ends it: as a NoBrokerError if
// there is no broker. WaitForBroker has it try on.
func (c *Client) Feed(ctx context.Context, q FeedQuery, options ...FollowOption) iter.Seq2[FeedMessage, error] {
	return func(yield func(FeedMessage, error) bool) {
		l := &listening{
			client: c, q: q, wait: followOptionsOf(options).wait,
			yield:  func(m FeedMessage) bool { return yield(m, nil) },
			things: newContinuity(false),
			retry:  newBackoff(),
		}
		if err := l.run(ctx); !errors.Is(err, errStop) {
			yield(FeedMessage{}, err)
		}
	}
}
