//go:build proof

package proof

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"tbhist/internal/zmtp"
)

// load sends updates to a broker at a rate, over all its restarts. What is
// lost with a connection is lost: history tells what got there.
type load struct {
	names []string
	rate  int // updates a second in all

	stop context.CancelFunc // of the load, not of the last ones
	done sync.WaitGroup
}

// startLoad begins to send; finish must end it.
func startLoad(t *testing.T, b *broker, rate int, names []string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{names: names, rate: rate, stop: cancel}
	d := zmtp.Dialer{DialOptions: zmtp.DialOptions{Role: zmtp.Pub}, MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond}
	n := 0
	l.done.Go(func() {
		_ = d.Run(ctx, func(int) (string, error) { return b.addr(inputPort), nil }, func(ctx context.Context, c *zmtp.Conn) error {
			return l.send(ctx, c, &n)
		}) // it ends with ctx
	})
	t.Cleanup(func() {
		cancel()
		l.done.Wait()
	})
	return l
}

// send sends by plan: what is late is sent at once, up to a second of it.
func (l *load) send(ctx context.Context, c *zmtp.Conn, n *int) error {
	const tick = 10 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	begun := time.Now()
	var framed, body []byte
	for sent := 0; ; {
		due := int(time.Since(begun).Seconds() * float64(l.rate))
		sent = max(sent, due-l.rate)
		framed = framed[:0]
		for ; sent < due; sent++ {
			*n++
			body = fmt.Appendf(body[:0], `{"type": "thing_update", "ns": "%s", "data": {"n": %d, "about": "as much as a sensor tells"}, "ts": %d.5, "documentation_url": null}`,
				l.names[*n%len(l.names)], *n, *n)
			framed = zmtp.AppendFrame(framed, body, false)
		}
		if err := c.Write(framed); err != nil {
			return err
		}
		if err := c.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// finish ends the load and sends a last update to each of the names, when
// all that came before is taken.
func (l *load) finish(t *testing.T, b *broker, names []string) {
	t.Helper()
	l.stop()
	l.done.Wait()
	before := -1.0
	eventually(t, "all that was sent is taken", func() bool {
		now := b.metric(`tbhist_updates_accepted_total{transport="zmq"}`)
		same := now == before
		before = now
		return same
	})
	for _, name := range names {
		b.command("send", name, lastData)
	}
}
