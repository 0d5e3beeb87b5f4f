//go:build proof

package proof

import (
	"context"
	"fmt"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
)

// crashWatch is a subscriber of everything. It takes what it sees into the
// model, which is its own until finish.
type crashWatch struct {
	m     *crashModel
	addr  string
	dead  context.CancelFunc
	done  chan struct{}
	conns int
	err   error // the first complaint
}

// watchFeed connects to a broker as soon as it is there.
func watchFeed(ctx context.Context, b *broker, m *crashModel) *crashWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &crashWatch{m: m, addr: b.addr(feedPort), dead: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	return w
}

// finish takes what still comes of a process that has ended.
func (w *crashWatch) finish() error {
	w.dead()
	<-w.done
	return w.err
}

func (w *crashWatch) run(ctx context.Context) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && w.err == nil {
		if c, err := zmtp.Dial(ctx, w.addr, zmtp.DialOptions{Role: zmtp.Sub}); err == nil {
			w.listen(c)
			_ = c.Close()
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	if w.err == nil && w.conns > 1 {
		w.err = fmt.Errorf("the subscriber was connected %d times to one process", w.conns)
	}
}

// listen reads until the broker has gone.
func (w *crashWatch) listen(c *zmtp.Conn) {
	if c.Subscribe([]byte(wire.UpdatePrefix)) != nil {
		return
	}
	before, last := w.m.newest, uint64(0)
	for {
		f, err := c.Read()
		if err != nil {
			return
		}
		u, err := wire.ParseUpdate(f.Body)
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %.300q", err, f.Body)
		case !u.Kept():
			err = w.m.lose(&u)
		case last == 0 && u.Seq <= before:
			err = fmt.Errorf("the feed begins with seq %d, and seq %d was there before", u.Seq, before)
		case last != 0 && u.Seq != last+1:
			err = fmt.Errorf("the feed has seq %d behind %d", u.Seq, last)
		default:
			if last == 0 {
				w.conns++
			}
			last = u.Seq
			_, err = w.m.know(&u, f.Body, true)
		}
		if err != nil {
			w.err = err
			return
		}
	}
}
