package zmtp

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// input is the reading side's buffer: buf[r:w] has been received and not
// yet given out. buf is the small buffer, or a larger one lent while more
// has come than the one before could hold.
type input struct {
	buf   []byte
	r, w  int
	lent  []byte // buf, when it is lent
	body  []byte // what large gave last, until the next Read
	small [smallBuffer]byte
}

func (in *input) init()         { in.buf = in.small[:] }
func (in *input) bytes() []byte { return in.buf[in.r:in.w] }

// Buffered gives how many bytes have been received and not been read: the
// reader's business only.
func (c *Conn) Buffered() int { return c.in.w - c.in.r }

// FrameBuffered tells whether the next Read will give a frame without a
// system call: the reader's business only.
func (c *Conn) FrameBuffered() bool {
	b := c.in.bytes()
	for {
		h, ok := parseHeader(b)
		if !ok || h.size > uint64(len(b)-h.len) {
			return false
		}
		if h.flags&flagCommand == 0 {
			return true
		}
		b = b[h.len+int(h.size):]
	}
}

// need reads until n bytes are buffered; n is at most largeBuffer. The
// error is io.EOF only where the stream may end.
func (c *Conn) need(n int) error {
	for c.Buffered() < n {
		in := &c.in
		if in.r == in.w {
			c.lower()
		}
		switch {
		case n > len(in.buf), in.w == len(in.buf) && len(in.buf) < largeBuffer:
			c.raise(max(n, len(in.buf)+1))
		case n > len(in.buf)-in.r, in.w == len(in.buf):
			in.w = copy(in.buf, in.bytes())
			in.r = 0
		}
		m, err := c.receive(in.buf[in.w:], in.r < in.w)
		in.w += m
		if err != nil {
			return err
		}
	}
	return nil
}

// raise moves what is buffered into a larger buffer of at least n bytes.
func (c *Conn) raise(n int) {
	in := &c.in
	b := lend(n)
	c.buffers.take(c, int64(len(b)), true)
	w := copy(b, in.bytes())
	c.lower()
	in.buf, in.lent, in.w = b, b, w
}

// lower goes back to the small buffer and forgets what is buffered.
func (c *Conn) lower() {
	in := &c.in
	in.r, in.w = 0, 0
	if in.lent == nil {
		return
	}
	c.buffers.give(c, int64(len(in.lent)))
	takeBack(in.lent)
	in.buf, in.lent = in.small[:], nil
}

// receive reads once from the network, after sending the PONGs that are
// due, and sends and checks heartbeats while nothing comes. partial tells
// that the bytes waited for belong to a frame that has begun.
func (c *Conn) receive(p []byte, partial bool) (int, error) {
	if partial && c.midFrame.Load() == 0 {
		c.midFrame.Store(ticks())
	}
	for {
		c.sendControl()
		if c.interval > 0 {
			if err := c.nc.SetReadDeadline(time.Now().Add(c.interval)); err != nil {
				return 0, c.because(err)
			}
		}
		n, err := c.nc.Read(p)
		if n > 0 {
			c.pinged = false
			return n, nil
		}
		switch {
		case err == nil:
		case c.interval > 0 && errors.Is(err, os.ErrDeadlineExceeded):
			if !c.out.mu.TryLock() { // the writer watches over the peer
				c.pinged = false
				continue
			}
			_ = c.unlock() // a failure is told to the next writer
			if c.pinged {
				c.end(ErrPeerSilent)
				return 0, c.because(err)
			}
			c.pinged = true
			c.control.ping(c.interval)
		case errors.Is(err, io.EOF) && (partial || c.parts > 0):
			return 0, c.because(io.ErrUnexpectedEOF)
		default:
			return 0, c.because(err)
		}
	}
}

// large reads a body that no buffer holds. On a listener's connection it
// grows with what has come, not with what was announced, but waits first
// until there is room for all of it, so that bodies do not wait for each
// other half-way. A peer that was dialled is believed up to trusted bytes.
func (c *Conn) large(size int) ([]byte, error) {
	c.midFrame.Store(0) // waiting for room is not the peer's fault
	if err := c.room(int64(size)); err != nil {
		return nil, err
	}
	defer c.bodies.give(c, int64(size))
	var body []byte
	if c.bodies == nil {
		body = lendBody(min(size, trusted))
	} else {
		body = make([]byte, min(size, 2*largeBuffer))
	}
	n := copy(body, c.in.bytes())
	c.in.r += n
	c.lower()
	for n < size {
		if n == len(body) {
			body = append(make([]byte, 0, min(size, 2*n)), body...)
			body = body[:cap(body)]
		}
		m, err := c.receive(body[n:], true)
		if err != nil {
			return nil, err
		}
		n += m
	}
	c.in.body = body
	return body, nil
}

// giveBody ends the use of what large gave.
func (c *Conn) giveBody() {
	if c.bodies == nil {
		takeBackBody(c.in.body)
	}
	c.in.body = nil
}

// freeMessage is how much of a message is held without being booked.
const freeMessage = 4 << 10

// hold books n bytes more of a message that is kept until the next is read.
// A peer that never ends its message, or asks much before it has taken the
// last answer, could else make every connection hold one.
func (c *Conn) hold(n int) error {
	c.held += int64(n)
	switch {
	case c.bodies == nil || c.held <= freeMessage:
		return nil
	case c.holding.Load() == 0: // with what was free so far
		c.holding.Store(ticks())
		n = int(c.held)
	}
	return c.room(int64(n))
}

// room books bytes for bodies, and waits until there is room for them.
func (c *Conn) room(n int64) error {
	for !c.bodies.take(c, n, false) {
		select {
		case <-c.ctx.Done():
			return c.because(net.ErrClosed)
		case <-time.After(roomPause):
		}
	}
	return nil
}

// letGo gives back what hold booked: the message was dealt with.
func (c *Conn) letGo() {
	if c.holding.Load() != 0 {
		c.bodies.give(c, c.held)
		c.holding.Store(0)
	}
	c.held = 0
}

// roomPause is how long what there is no room for waits to look again.
const roomPause = 20 * time.Millisecond

// skip reads past a body, and gives its first bytes.
func (c *Conn) skip(size int64) ([]byte, error) {
	keep := int(min(size, smallBuffer))
	first := make([]byte, 0, keep)
	for size > 0 {
		if c.Buffered() == 0 {
			if err := c.more(); err != nil {
				return nil, err
			}
		}
		b := c.in.bytes()
		b = b[:min(int64(len(b)), size)]
		first = append(first, b[:min(len(b), keep-len(first))]...)
		c.in.r += len(b)
		size -= int64(len(b))
	}
	return first, nil
}

// more reads into the empty buffer in the middle of a frame, into a large
// one from the first time on.
func (c *Conn) more() error {
	c.in.r, c.in.w = 0, 0
	if len(c.in.buf) < largeBuffer {
		c.raise(largeBuffer)
	}
	n, err := c.receive(c.in.buf, true)
	c.in.w = n
	return err
}

// release gives back what the reading side holds. Nobody may be reading.
func (c *Conn) release() {
	c.lower()
	c.letGo()
	c.in.body = nil
	c.buffers.giveAll(c)
	c.bodies.giveAll(c)
}
