package ingest

import (
	"context"
	"time"

	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// ServeZMQ takes updates from one publisher until the connection ends: it
// subscribes to everything, and each frame is a message of its own. It is
// the handler of a zmtp.Listener of role Sub.
func (in *Ingest) ServeZMQ(ctx context.Context, c *zmtp.Conn) {
	if err := c.Subscribe(nil); err != nil {
		return // the connection is gone
	}
	source := &thing.Source{Addr: c.Remote().Addr().WithZone(""), Transport: thing.ZMQ}
	if in.rates != nil {
		// Each connection gives a message before it is held back: without this,
		// connecting anew for each would be a way around.
		if owed := in.rates.owed(source.Addr); owed > 0 && !in.holdBack(ctx, owed) {
			return
		}
	}
	for in.zmqBurst(ctx, c, source) {
	}
}

// zmqBurst waits for a frame, takes it and those that have come in with it,
// and hands them over. It is false when the connection has ended.
func (in *Ingest) zmqBurst(ctx context.Context, c *zmtp.Conn, source *thing.Source) bool {
	f, err := c.Read()
	if err != nil {
		return false
	}
	b := in.bursts.Get().(*burst) // nothing else is in the pool
	b.received = thing.MicrosOf(in.o.Now())
	var over time.Duration // that the next is not due for
	for {
		switch f.Kind {
		case zmtp.Message:
			in.decode(b, f.Body, source)
		case zmtp.Oversize:
			in.refuse(source, thing.ReasonTooLarge, f.Body)
		case zmtp.Subscribe, zmtp.Cancel: // not for a subscriber
		}
		if in.rates != nil && (f.Kind == zmtp.Message || f.Kind == zmtp.Oversize) {
			over = in.rates.took(source.Addr)
		}
		if over > 0 || b.full() || !c.FrameBuffered() {
			break
		}
		if f, err = c.Read(); err != nil {
			break
		}
	}
	ok := in.handOver(ctx, b, thing.ZMQ)
	b.reset()
	in.bursts.Put(b)
	if !ok || err != nil {
		return false
	}
	return over == 0 || in.holdBack(ctx, over)
}
