package client

import (
	"context"
	"iter"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
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

// FeedMessage is one message of the live feed.
type FeedMessage struct {
	// Updates holds one update, or the entries of a snapshot that were
	// asked for, or nothing. An update that the disk refused has a Seq
	// of 0: it is not kept and never will be.
	Updates []Update
	// Snapshot tells that Updates are entries of a snapshot. Their Doc is
	// the documentation URL in force.
	Snapshot bool
	// Skipped counts updates that this connection would have had and was
	// moved past, because it read too slowly. History has them.
	Skipped uint64
	// More tells that the next message is here already: a program that
	// buffers its output need not flush now.
	More bool
}

// Feed yields the live feed from now on, until ctx ends; then its last error
// is that of the context. Updates from before the subscription is at work
// are not in it: Follow has them.
func (c *Client) Feed(ctx context.Context, q FeedQuery) iter.Seq2[FeedMessage, error] {
	return func(yield func(FeedMessage, error) bool) {
		f, err := c.feed(ctx, q.Name, !q.Alone, q.Snapshots)
		if err != nil {
			yield(FeedMessage{}, err)
			return
		}
		defer f.close()
		for {
			m, err := f.next(ctx)
			if err != nil {
				yield(FeedMessage{}, err)
				return
			}
			if !yield(q.message(&m, f.more()), nil) {
				return
			}
		}
	}
}

func (q *FeedQuery) message(m *wire.Message, more bool) FeedMessage {
	out := FeedMessage{More: more}
	switch m.Kind {
	case wire.KindUpdate:
		out.Updates = []Update{m.Update}
	case wire.KindHeartbeat:
		out.Skipped = m.Heartbeat.Skipped
	case wire.KindSnapshot:
		out.Snapshot = true
		for _, e := range m.Snapshot.Entries {
			if e.Update.Name == q.Name || !q.Alone && e.Update.Name.Under(q.Name) {
				e.Update.Doc = e.Doc
				out.Updates = append(out.Updates, e.Update)
			}
		}
	case wire.KindUnknown:
	}
	return out
}

// feed is a connection to the live feed.
type feed struct{ *connection }

// feed connects and subscribes. The subscription to heartbeats is the last:
// the broker works on subscriptions in their order, so the first heartbeat
// proves that all are at work.
func (c *Client) feed(ctx context.Context, name thing.Name, tree, snapshots bool) (*feed, error) {
	conn, err := c.connect(ctx, FeedOffset, zmtp.Sub)
	if err != nil {
		return nil, err
	}
	prefixes := wire.Prefix(name, tree)
	if snapshots {
		prefixes = append(prefixes, []byte(wire.SnapshotPrefix))
	}
	for _, prefix := range append(prefixes, []byte(wire.HeartbeatPrefix)) {
		if err := conn.Subscribe(prefix); err != nil {
			conn.close()
			return nil, lost(ctx, err)
		}
	}
	return &feed{conn}, nil
}

// next reads one message. What cannot be read as one is of KindUnknown: no
// message ends a client.
func (f *feed) next(ctx context.Context) (wire.Message, error) {
	frames, err := zmtp.ReadMessage(f.Conn)
	if err != nil {
		return wire.Message{}, lost(ctx, err)
	}
	if len(frames) != 1 {
		return wire.Message{}, nil
	}
	m, err := wire.ParseMessage(frames[0])
	if err != nil {
		return wire.Message{}, nil //nolint:nilerr // see above
	}
	return m, nil
}

// more tells that the next message has come in whole.
func (f *feed) more() bool { return f.FrameBuffered() }
