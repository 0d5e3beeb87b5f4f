package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
)

// asker is a client of the history service that is in no hurry to
// understand: it takes pages as large as they come, asks for the next one
// before it looks at this one, and goes through its lines.
type asker struct {
	c    *zmtp.Conn
	page int
}

func (br *broker) asker(ctx context.Context) (*asker, error) {
	c, err := zmtp.Dial(ctx, br.addr(historyPort), zmtp.DialOptions{
		Role:   zmtp.Dealer,
		Limits: zmtp.Limits{MaxFrame: 128 << 20, MaxMessage: 256 << 20},
	})
	return &asker{c: c, page: wire.PageBytesMax}, err
}

func (a *asker) close() { _ = a.c.Close() } // nothing more is wanted of it

// ask gives how many updates the whole answer has, how long it took, and its
// first line.
func (a *asker) ask(ctx context.Context, r wire.Request) (count int, took time.Duration, first []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, errors.New("no answer"))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = a.c.Close() })
	defer stop()
	start := time.Now()
	r.Type, r.PageBytes = wire.TypeReplay, &a.page
	next := &r
	if err := zmtp.SendRequest(a.c, next.Append(nil)); err != nil {
		return 0, 0, nil, err
	}
	for next != nil {
		if next, err = a.receive(func(line []byte) {
			if count++; count == 1 {
				first = bytes.Clone(line)
			}
		}); err != nil {
			return 0, 0, nil, errors.Join(context.Cause(ctx), err)
		}
	}
	return count, time.Since(start), first, nil
}

// awaitHead waits until the broker has committed n updates since it began.
func (br *broker) awaitHead(ctx context.Context, n int) error {
	a, err := br.asker(ctx)
	if err != nil {
		return err
	}
	defer a.close()
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("the broker does not come to have %d updates", n))
	defer cancel()
	after, one := uint64(n-1), uint64(1)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		count, _, _, err := a.ask(ctx, wire.Request{After: &after, Limit: &one})
		if err != nil || count > 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// receive takes one page, and sends the request for the next, which it
// gives, as soon as it knows it.
func (a *asker) receive(each func(line []byte)) (next *wire.Request, err error) {
	var f zmtp.Frame
	read := func() {
		if err == nil {
			f, err = a.c.Read()
		}
	}
	read()
	if err == nil && len(f.Body) == 0 && f.More { // the delimiter
		read()
	}
	if err != nil {
		return nil, err
	}
	head, err := wire.ParseHead(f.Body)
	if err != nil {
		return nil, err
	}
	if head.Next != "" {
		next = &wire.Request{Type: wire.TypeReplay, PageBytes: &a.page, Cursor: head.Next}
		err = zmtp.SendRequest(a.c, next.Append(nil))
	}
	read()
	if err != nil {
		return nil, err
	}
	lines := uint64(0)
	for body := f.Body; len(body) > 0; lines++ {
		n := bytes.IndexByte(body, '\n')
		if n < 0 {
			return nil, errors.New("a line has no end")
		}
		each(body[:n])
		body = body[n+1:]
	}
	if lines != head.Count {
		return nil, fmt.Errorf("a page of %d has %d lines", head.Count, lines)
	}
	return next, nil
}
