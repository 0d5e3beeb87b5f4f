package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
)

// limits bound what the broker may send: a frame is a page of an answer, a
// part of a snapshot or an update, and --max-update may be raised. One message
// has one of them; an answer has its head, and may have a delimiter, beside.
func limits() zmtp.Limits {
	l := zmtp.DefaultLimits()
	l.MaxFrame = 128 << 20
	l.MaxMessage = l.MaxFrame + 2<<20
	l.MaxBuffered = 512 << 20
	l.MaxParts = 16
	return l
}

// heartbeat is how often a silent connection is probed, so that a broker
// whose machine is gone is noticed.
const heartbeat = 10 * time.Second

// connection is a connection to one of a broker's ports.
type connection struct {
	*zmtp.Conn
	at     endpoint // the broker it leads to
	offset int      // of the port
	close  func()
}

// connect dials one of the broker's ports: that of the first broker that
// answers. The connection is closed when ctx ends, or by its close.
func (c *Client) connect(ctx context.Context, offset int, role zmtp.Role) (conn *connection, err error) {
	err = c.each(ctx, func(e endpoint) error {
		conn, err = c.connectTo(ctx, e, offset, role)
		return err
	})
	return conn, err
}

func (c *Client) connectTo(ctx context.Context, at endpoint, offset int, role zmtp.Role) (*connection, error) {
	dialing, cancel := context.WithTimeout(ctx, c.o.DialTimeout)
	defer cancel()
	l := limits()
	l.Handshake = c.o.DialTimeout + time.Second // dialing ends before
	conn, err := zmtp.Dial(dialing, at.addr(offset), zmtp.DialOptions{
		Role: role, Limits: l, Heartbeat: heartbeat, Logger: c.o.Logger, Resolver: c.hosts(),
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, noBroker(at, offset, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &connection{Conn: conn, at: at, offset: offset, close: func() {
		stop()
		_ = conn.Close()
	}}, nil
}

// lost tells why a connection ended that was good: because of ctx, or else
// ErrLost.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w (%w)", ErrLost, err)
}

// history is a connection to the history service.
type history struct {
	*connection
	client *Client
}

func (c *Client) history(ctx context.Context) (*history, error) {
	conn, err := c.connect(ctx, HistoryOffset, zmtp.Dealer)
	if err != nil {
		return nil, err
	}
	return &history{connection: conn, client: c}, nil
}

// page is one page of an answer.
type page struct {
	head *wire.PageHead
	body []byte
}

// lines yields the page's lines.
func (p *page) lines(yield func([]byte) bool) {
	body := bytes.TrimSuffix(p.body, []byte("\n"))
	for n := uint64(0); n < p.head.Count; n++ {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		if !yield(line) {
			return
		}
		body = rest
	}
}

func (h *history) send(ctx context.Context, r *wire.Request) error {
	if err := zmtp.SendRequest(h.Conn, r.Append(nil)); err != nil {
		return lost(ctx, err)
	}
	return nil
}

// receive reads the answer to the oldest request not answered yet, which is of
// a type. The error is a *NonsenseError for what is no answer to it.
func (h *history) receive(ctx context.Context, typ string) (*page, error) {
	late := time.AfterFunc(h.client.o.AnswerTimeout, func() { _ = h.Conn.Close() })
	frames, err := zmtp.ReadReply(h.Conn)
	if !late.Stop() && err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("the broker does not answer within %s", h.client.o.AnswerTimeout)
	}
	if err != nil {
		return nil, lost(ctx, err)
	}
	if len(frames) == 0 {
		return nil, errors.New("the broker's answer is empty")
	}
	head, err := wire.ParseHead(frames[0])
	if err != nil {
		var refused *wire.ErrorFrame
		if errors.As(err, &refused) {
			return nil, &BrokerError{Code: visible(refused.Code), Message: visible(refused.Message), Epoch: visible(refused.Epoch)}
		}
		return nil, fmt.Errorf("the broker's answer cannot be read: %w", err)
	}
	p := &page{head: head}
	if len(frames) > 1 {
		p.body = frames[1]
	}
	if err := h.check(p, typ); err != nil {
		return nil, err
	}
	return p, nil
}

// pages asks and yields page after page until the answer is complete, or m
// sees that it never will be. While one page is in use the broker already
// reads the next.
func (h *history) pages(ctx context.Context, r *wire.Request, m *moving, yield func(*page) error) error {
	size := pageBytes
	r.PageBytes = &size
	if err := h.send(ctx, r); err != nil {
		return err
	}
	asked := r.Cursor
	for {
		p, err := h.receive(ctx, r.Type)
		if err != nil {
			return err
		}
		moved := *m
		if err := moved.next(h, asked, p); err != nil {
			return err
		}
		asked = p.head.Next
		if p.head.Next != "" {
			if err := h.send(ctx, &wire.Request{Type: r.Type, PageBytes: &size, Cursor: p.head.Next}); err != nil {
				return err
			}
		}
		if err := yield(p); err != nil {
			return err // a page that was not used up may be asked for again
		}
		if *m = moved; p.head.Next == "" {
			return nil
		}
	}
}

// pageBytes is the size of the pages asked for.
const pageBytes = 1 << 20

// errStop ends an iteration whose loop was left.
var errStop = errors.New("stopped")
