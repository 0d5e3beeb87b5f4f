package client

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"tbhist/internal/backoff"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// feedSilence is how long a feed may be silent: a broker that is there sends
// a heartbeat every 5 s.
const feedSilence = 30 * time.Second

// feed is a connection to the live feed.
type feed struct {
	*connection
	name    thing.Name
	alone   bool
	silence time.Duration
	late    *time.Timer // closes the connection, while something is waited for
	size    int         // of the message that was read last
	beat    *wire.Heartbeat
}

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
	return &feed{connection: conn, name: name, alone: !tree, silence: feedSilence}, nil
}

// lasted has the pauses begin anew behind a connection that lasted: to one that
// ends again and again as soon as it is there, nobody need hurry.
func lasted(retry *backoff.Backoff, since time.Time) {
	if time.Since(since) > steady {
		retry.Reset()
	}
}

// next reads one message. What cannot be read as one, and what was not
// subscribed to, is of KindUnknown: no message ends a client, but for
// heartbeats that prove that nothing the broker says can be relied on.
func (f *feed) next(ctx context.Context) (wire.Message, error) {
	frame, err := f.frame(ctx)
	if err != nil {
		return wire.Message{}, err
	}
	return f.parse(frame)
}

// parse is next for a message that was read. The error is a *NonsenseError.
func (f *feed) parse(frame []byte) (wire.Message, error) {
	m, err := wire.ParseMessage(frame)
	switch {
	case err != nil, m.Kind == wire.KindUpdate && !within(m.Update.Name, f.name, f.alone):
		return wire.Message{}, nil //nolint:nilerr // see next
	case m.Kind != wire.KindHeartbeat:
		return m, nil
	}
	was, h := f.beat, m.Heartbeat
	f.beat = &h
	switch {
	case !validEpoch(h.Epoch):
		return m, f.nonsense("a heartbeat of a history named %.80q", h.Epoch)
	case was == nil:
	case was.Epoch != h.Epoch:
		return m, f.nonsense("a heartbeat of history %q behind one of %q, on one connection", h.Epoch, was.Epoch)
	case h.Seq < was.Seq:
		return m, f.nonsense("a heartbeat with seq %d behind one with %d, on one connection", h.Seq, was.Seq)
	}
	return m, nil
}

// frame reads one message as it came; nil for one of several frames.
func (f *feed) frame(ctx context.Context) ([]byte, error) {
	frame, err := f.read()
	if err != nil {
		return nil, lost(ctx, err)
	}
	f.size = len(frame)
	return frame, nil
}

func (f *feed) read() ([]byte, error) {
	several := false
	if f.more() {
		first, err := f.Conn.Read()
		if err != nil || !first.More {
			return bytes.Clone(first.Body), err
		}
		several = true // and the others may never come
	}
	if f.late == nil {
		f.late = time.AfterFunc(f.silence, func() { _ = f.Conn.Close() })
	} else {
		f.late.Reset(f.silence)
	}
	frames, err := zmtp.ReadMessage(f.Conn)
	if !f.late.Stop() && err != nil {
		err = fmt.Errorf("nothing was heard from the broker for %s: %w", f.silence, err)
	}
	if err != nil || several || len(frames) != 1 {
		return nil, err
	}
	return frames[0], nil
}

// more tells that the next message has come in whole.
func (f *feed) more() bool { return f.FrameBuffered() }
