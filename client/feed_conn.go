package client

import (
	"context"
	"fmt"
	"time"

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
	silence time.Duration
	late    *time.Timer // closes the connection, while something is waited for
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
	return &feed{connection: conn, silence: feedSilence}, nil
}

// next reads one message. What cannot be read as one is of KindUnknown: no
// message ends a client.
func (f *feed) next(ctx context.Context) (wire.Message, error) {
	frame, err := f.frame(ctx)
	if err != nil {
		return wire.Message{}, err
	}
	return parse(frame), nil
}

// frame reads one message as it came; nil for one of several frames.
func (f *feed) frame(ctx context.Context) ([]byte, error) {
	frames, err := f.read()
	if err != nil {
		return nil, lost(ctx, err)
	}
	if len(frames) != 1 {
		return nil, nil
	}
	return frames[0], nil
}

func (f *feed) read() ([][]byte, error) {
	if f.more() {
		return zmtp.ReadMessage(f.Conn)
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
	return frames, err
}

func parse(frame []byte) wire.Message {
	m, err := wire.ParseMessage(frame)
	if err != nil {
		return wire.Message{} // see next
	}
	return m
}

// more tells that the next message has come in whole.
func (f *feed) more() bool { return f.FrameBuffered() }
