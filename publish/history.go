package publish

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/store"
)

// MaxRequestBytes is the largest request that is taken: a cursor holds a
// position of the store, which may have nearly 1 MiB, as base64.
const MaxRequestBytes = 1536 << 10

// LimitRequests sets the limits of the history listener that ServeHistory
// counts on: larger requests, within reason, come in to be answered with an
// error.
func LimitRequests(l *zmtp.Limits) {
	l.MaxFrame, l.MaxOversize = MaxRequestBytes, 8*MaxRequestBytes
	l.MaxMessage, l.MaxParts = MaxRequestBytes+64<<10, 64
}

// ServeHistory answers one connection's requests, in their order, until it
// or ctx ends. It is the handler of the history listener. While one answer
// is on its way the next is made, if it has been asked for already.
func (p *Publisher) ServeHistory(ctx context.Context, c *zmtp.Conn) {
	var last *delivery
	defer func() { _ = last.wait() }() // the connection has ended, and that with it
	for ctx.Err() == nil {
		// A peer that asks nothing more may still be waiting for its answer.
		if c.Await() != nil && last.wait() != nil {
			return
		}
		envelope, body, err := zmtp.ReadRequest(c)
		if err != nil && !errors.Is(err, zmtp.ErrOversize) {
			return
		}
		a := &asked{p: p, addr: c.Remote().Addr(), close: c.Close, before: last}
		var frame []byte
		if err != nil {
			frame = a.fail(nil, tooLarge())
		} else {
			frame = a.answer(ctx, body)
		}
		if last.wait() != nil || ctx.Err() != nil {
			a.done()
			return
		}
		last = a.deliver(c, envelope, frame)
	}
}

// delivery is an answer on its way.
type delivery struct {
	done chan struct{} // closed when it is over
	err  error
	// booked tells that it took room, so that it is cut off when others need
	// that.
	booked bool
}

// wait waits until the answer was written or could not be; nil is no answer.
func (d *delivery) wait() error {
	if d == nil {
		return nil
	}
	<-d.done
	return d.err
}

// deliver writes the answer and gives back what it took, while the next is
// made.
func (a *asked) deliver(c *zmtp.Conn, envelope [][]byte, frame []byte) *delivery {
	d := &delivery{done: make(chan struct{}), booked: a.room != nil}
	if d.booked {
		a.p.answers.sending(a.room)
	}
	go func() {
		defer close(d.done)
		defer a.done()
		if a.page {
			d.err = zmtp.WriteReplyPieces(c, envelope, frame, a.lines.pieces)
		} else {
			d.err = zmtp.WriteReply(c, envelope, frame)
		}
	}()
	return d
}

// asked is one request while it is answered.
type asked struct {
	p      *Publisher
	addr   netip.Addr
	close  func() error
	before *delivery // of the connection's last answer
	bytes  int       // of the request, which may be held by its question
	room   *answer   // nil until it was needed
	ahead  bool      // room was taken while the last answer was being sent
	lines  page
	page   bool // the answer has a second frame: lines
}

// done gives back what the answer took.
func (a *asked) done() {
	a.lines.release()
	if a.room != nil {
		a.p.answers.give(a.room)
	}
}

// answer gives the first frame of the answer to a request.
func (a *asked) answer(ctx context.Context, body [][]byte) []byte {
	switch {
	case len(body) != 1:
		a.p.o.HistoryMetrics.Request("")
		return a.fail(nil, badRequest("a request is one frame, and this one has %d", len(body)))
	case len(body[0]) > MaxRequestBytes:
		a.p.o.HistoryMetrics.Request("")
		return a.fail(nil, tooLarge())
	}
	a.bytes = len(body[0])
	r, err := wire.ParseRequest(body[0])
	a.p.o.HistoryMetrics.Request(r.Type)
	if err != nil {
		return a.fail(r.ID, badRequest("%w", err))
	}
	q, err := a.p.question(r)
	if err != nil {
		return a.fail(r.ID, err)
	}
	head, err := a.make(ctx, r, q)
	if errors.Is(err, errBusy) && a.ahead && a.alone() {
		head, err = a.make(ctx, r, q)
	}
	if err != nil {
		a.lines.release()
		return a.fail(r.ID, err)
	}
	a.page = true
	return head
}

// make makes an answer.
func (a *asked) make(ctx context.Context, r *wire.Request, q *question) (head []byte, err error) {
	switch r.Type {
	case wire.TypeReplay:
		return a.replay(ctx, r, q)
	case wire.TypeDirectory:
		return a.directory(ctx, r, q)
	default: // there is no other
		return a.refused(ctx, r)
	}
}

// alone gives back what an answer ahead took, and waits until the one before
// it is over; false when nobody is there any more.
func (a *asked) alone() bool {
	a.done()
	a.room, a.lines, a.ahead = nil, page{}, false
	err := a.before.wait()
	a.before = nil
	return err == nil
}

// fit books what a page takes beyond what was booked for it: a line may be
// much longer than the page asked for.
func (a *asked) fit() error {
	more := a.lines.held() - a.room.bytes
	if more <= max(a.room.bytes/4, 4<<10) || a.p.answers.more(a.room, more) {
		return nil
	}
	if !a.ahead {
		a.p.answers.cutOff()
	}
	return errBusy
}

// turn waits until a page of so many bytes may be read for this request.
func (a *asked) turn(ctx context.Context, bytes int) (done func(), err error) {
	// Not behind an answer that is never cut off: this one would hold its room
	// for as long as that is taken.
	if a.before != nil && a.before.booked {
		a.room = a.p.answers.takeAhead(a.addr, bytes+a.bytes, a.close)
		a.ahead = a.room != nil
	}
	if a.room == nil {
		if a.before.wait() != nil { // nobody is there to be answered
			return nil, context.Canceled
		}
		if a.room, err = a.p.answers.take(ctx, a.addr, bytes+a.bytes, a.close); err != nil {
			return nil, err
		}
	}
	return a.p.answers.read(ctx)
}

// codeError is an error with its code on the wire.
type codeError struct {
	code string
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

func badRequest(format string, args ...any) error {
	return &codeError{code: wire.CodeBadRequest, err: fmt.Errorf(format, args...)}
}

func tooLarge() error {
	return &codeError{code: wire.CodeTooLarge, err: fmt.Errorf("a request has at most %d bytes", MaxRequestBytes)}
}

// fail gives the frame of an error.
func (a *asked) fail(id []byte, err error) []byte {
	p := a.p
	f := wire.ErrorFrame{Code: wire.CodeUnavailable, Message: err.Error(), Epoch: p.o.Store.State().Epoch, ID: id}
	var coded *codeError
	switch {
	case errors.As(err, &coded):
		f.Code = coded.code
	case errors.Is(err, errBusy):
		f.Code = wire.CodeBusy
	case errors.Is(err, store.ErrBadResume):
		f.Code, f.Message = wire.CodeBadRequest, "the cursor is of no use for this history: ask anew without it"
	case errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled):
		f.Message = "the broker is closing"
	default:
		if p.answers.mayLog() {
			p.o.Logger.Error("history cannot be read", "err", err)
		}
		f.Message = "history cannot be read: " + f.Message
	}
	p.o.HistoryMetrics.Error(f.Code)
	return f.Append(nil)
}

// refusedBytes is what a page of refusals takes, more or less.
const refusedBytes = 64 << 10

// refused answers with the newest refusals.
func (a *asked) refused(ctx context.Context, r *wire.Request) (frame []byte, err error) {
	done, err := a.turn(ctx, refusedBytes)
	if err != nil {
		return nil, err
	}
	defer done()
	head := wire.PageHead{Type: wire.TypeRefusedPage, ID: r.ID}
	if a.p.o.Refusals != nil {
		for _, line := range a.p.o.Refusals() {
			a.lines.keep(append(line.Append(a.lines.begin(0)), '\n'))
			head.Count++
		}
	}
	if err := a.fit(); err != nil {
		return nil, err
	}
	a.p.answers.shrink(a.room, a.lines.held()+a.bytes)
	return head.Append(nil), nil
}
