package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
)

// deadline bounds one measurement.
const deadline = 5 * time.Minute

// pieceUpdates is how many updates a piece of framed input has.
const pieceUpdates = 1000

// sender is an adaptor that costs next to nothing: what it sends was framed
// before, and goes out some 200 KB a system call.
type sender struct{ c *zmtp.Conn }

func (br *broker) sender(ctx context.Context) (*sender, error) {
	c, err := zmtp.Dial(ctx, br.addr(inputPort), zmtp.DialOptions{Role: zmtp.Pub})
	if err != nil {
		return nil, err
	}
	for {
		f, err := c.Read()
		if err != nil {
			_ = c.Close() // it is broken
			return nil, err
		}
		if f.Kind == zmtp.Subscribe {
			return &sender{c}, nil
		}
	}
}

// send sends the updates from and below to, whole pieces.
func (s *sender) send(pieces [][]byte, from, to int) error {
	for i := from / pieceUpdates; i < to/pieceUpdates; i++ {
		if err := s.c.Write(pieces[i%len(pieces)]); err != nil {
			return err
		}
	}
	return s.c.Flush()
}

func (s *sender) close() { _ = s.c.Close() } // all was received, or it failed already

// subscriber takes in all updates and counts them.
type subscriber struct {
	c    *zmtp.Conn
	seen int
	last []byte
}

// subscribe gives a subscriber whose subscription is at work.
func (br *broker) subscribe(ctx context.Context) (*subscriber, error) {
	c, err := zmtp.Dial(ctx, br.addr(feedPort), zmtp.DialOptions{Role: zmtp.Sub, Limits: zmtp.Limits{MaxFrame: 64 << 20}})
	if err != nil {
		return nil, err
	}
	// The snapshot comes at once, and after it all that is new.
	err = errors.Join(c.Subscribe([]byte(wire.UpdatePrefix)), c.Subscribe([]byte(wire.SnapshotPrefix)))
	for err == nil {
		var f zmtp.Frame
		if f, err = c.Read(); err == nil && bytes.HasPrefix(f.Body, []byte(wire.SnapshotPrefix)) {
			if err = c.Cancel([]byte(wire.SnapshotPrefix)); err == nil {
				return &subscriber{c: c}, nil
			}
		}
	}
	_ = c.Close() // it is broken
	return nil, err
}

func (s *subscriber) close() { _ = s.c.Close() } // nothing more is wanted of it

// receive takes in updates until it has seen total, and calls each, unless
// nil, for every one with its number from 0. It gives the longest time for
// which nothing came, after the first.
func (s *subscriber) receive(ctx context.Context, total int, each func(i int)) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, errors.New("the updates do not arrive"))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.c.Close() })
	defer stop()
	var pause time.Duration
	var before time.Time
	prefix := []byte(wire.UpdatePrefix)
	for s.seen < total {
		waiting := !s.c.FrameBuffered()
		f, err := s.c.Read()
		if err != nil {
			return 0, fmt.Errorf("after %d of %d updates: %w", s.seen, total, errors.Join(context.Cause(ctx), err))
		}
		if waiting {
			now := time.Now()
			if !before.IsZero() {
				pause = max(pause, now.Sub(before))
			}
			before = now
		}
		if !bytes.HasPrefix(f.Body, prefix) {
			continue
		}
		if each != nil {
			each(s.seen)
		}
		if s.seen++; s.seen == total {
			s.last = append(s.last[:0], f.Body...)
		}
	}
	return pause, s.complete()
}

// complete checks that the newest update has the seq it must have when none
// was missed since the broker began.
func (s *subscriber) complete() error {
	m, err := wire.ParseMessage(s.last)
	if err != nil {
		return err
	}
	if m.Update.Seq != uint64(s.seen) {
		return fmt.Errorf("after %d updates one has seq %d", s.seen, m.Update.Seq)
	}
	return nil
}

// pumped is what pump measured.
type pumped struct {
	took, pause time.Duration
}

// pump sends updates from and below to and waits until all are delivered:
// then they are durable too.
func pump(ctx context.Context, snd *sender, sub *subscriber, w *workload, from, to int) (p pumped, err error) {
	pieces := w.framed()
	var sent error
	var sending sync.WaitGroup
	start := time.Now()
	sending.Go(func() {
		if sent = snd.send(pieces, from, to); sent != nil {
			sub.close()
		}
	})
	p.pause, err = sub.receive(ctx, to, nil)
	p.took = time.Since(start)
	if err != nil {
		snd.close()
	}
	sending.Wait()
	return p, errors.Join(sent, err)
}

// fed starts a broker with a sender, has f use them, and ends it.
func (b *bench) fed(ctx context.Context, args []string, f func(br *broker, snd *sender) error) error {
	dir, remove, err := b.tempDir("tbhist")
	defer remove()
	if err != nil {
		return err
	}
	br, err := b.startBroker(ctx, dir, args...)
	if err != nil {
		return err
	}
	defer func() { br.kill() }()
	snd, err := br.sender(ctx)
	if err != nil {
		return err
	}
	defer snd.close()
	if err := f(br, snd); err != nil {
		return fmt.Errorf("%w\nthe broker's log:\n%s", err, br.output())
	}
	return nil
}

// live is fed with a subscriber beside the sender.
func (b *bench) live(ctx context.Context, args []string, f func(br *broker, snd *sender, sub *subscriber) error) error {
	return b.fed(ctx, args, func(br *broker, snd *sender) error {
		sub, err := br.subscribe(ctx)
		if err != nil {
			return err
		}
		defer sub.close()
		return f(br, snd, sub)
	})
}
