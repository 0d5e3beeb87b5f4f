package zmtp

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrOversize tells that a message was larger than Limits.MaxFrame and was
// read past; the connection goes on.
var ErrOversize = errors.New("zmtp: the message is too large")

// ReadMessage reads one whole message. Its frames are the caller's; on a
// listener's connection they count until the next ReadMessage or Await, and
// when memory is short a connection that holds much for long is closed. The error is
// ErrOversize, with the connection still usable, for a message with a frame
// too large; of such frames it has the beginning only.
func ReadMessage(c *Conn) ([][]byte, error) {
	c.letGo()
	var frames [][]byte
	var oversize error
	for {
		f, err := c.Read()
		if err != nil {
			return nil, err
		}
		switch f.Kind {
		case Subscribe, Cancel:
			continue
		case Oversize:
			oversize = ErrOversize
		case Message:
		}
		if err := c.hold(len(f.Body)); err != nil {
			return nil, c.fail(err)
		}
		if c.in.body != nil { // nobody else knows it
			c.in.body = nil
			frames = append(frames, f.Body)
		} else {
			frames = append(frames, slices.Clone(f.Body))
		}
		if !f.More {
			return frames, oversize
		}
	}
}

// ReadRequest reads one request on a Router connection. The envelope is
// everything up to and with the first empty frame, nil where there is none;
// WriteReply wants it back. The body is what follows, and may be empty. The
// error is ErrOversize, with a valid envelope and the connection still
// usable, for a request too large, and without one where that is the
// envelope; with any other the connection is at its end.
func ReadRequest(c *Conn) (envelope, body [][]byte, err error) {
	frames, err := ReadMessage(c)
	end := slices.IndexFunc(frames, func(f []byte) bool { return len(f) == 0 })
	if end < 0 {
		return nil, frames, err
	}
	size := 0
	for _, f := range frames[:end] {
		size += len(f)
	}
	if size > maxEnvelope {
		return nil, nil, ErrOversize
	}
	return frames[:end+1], frames[end+1:], err
}

// maxEnvelope bounds the bytes of an envelope, which stays in memory until
// its answer was taken: 64 identities of the 255 bytes that they may have.
const maxEnvelope = 64 * 255

// WriteReply writes an answer behind the envelope of its request, as one
// message, and flushes it.
func WriteReply(c *Conn, envelope [][]byte, frames ...[]byte) error {
	return writeMessage(c, envelope, frames)
}

// WriteReplyPieces is WriteReply for an answer of two frames: head, and one
// that is all pieces one behind the other.
func WriteReplyPieces(c *Conn, envelope [][]byte, head []byte, pieces [][]byte) error {
	framed := make([][]byte, 0, 2*len(envelope)+3+len(pieces))
	for _, f := range envelope {
		framed = append(framed, AppendFrameHeader(nil, len(f), true), f)
	}
	size := 0
	for _, p := range pieces {
		size += len(p)
	}
	framed = append(framed, AppendFrameHeader(nil, len(head), true), head, AppendFrameHeader(nil, size, false))
	if err := c.Write(append(framed, pieces...)...); err != nil {
		return err
	}
	return c.Flush()
}

// SendRequest writes a request on a Req or Dealer connection, behind the
// empty delimiter frame, and flushes it.
func SendRequest(c *Conn, frames ...[]byte) error {
	return writeMessage(c, [][]byte{nil}, frames)
}

// ReadReply reads the next answer on a Req or Dealer connection, without
// the delimiter frame.
func ReadReply(c *Conn) ([][]byte, error) {
	frames, err := ReadMessage(c)
	if err != nil {
		return nil, err
	}
	if len(frames[0]) == 0 {
		frames = frames[1:]
	}
	return frames, nil
}

// Request sends a request and reads its answer. When ctx ends first, or on
// any error, the connection is closed: a late answer must not be taken for
// that of the next request.
func Request(ctx context.Context, c *Conn, frames ...[]byte) ([][]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	reply, err := request(c, frames)
	if err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("zmtp: no answer: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return reply, nil
}

func request(c *Conn, frames [][]byte) ([][]byte, error) {
	if err := SendRequest(c, frames...); err != nil {
		return nil, err
	}
	return ReadReply(c)
}

// writeMessage writes the frames of one message under one lock.
func writeMessage(c *Conn, envelope, frames [][]byte) error {
	n := len(envelope) + len(frames)
	pieces := make([][]byte, 0, 2*n)
	for _, part := range [2][][]byte{envelope, frames} {
		for _, f := range part {
			n--
			pieces = append(pieces, AppendFrameHeader(nil, len(f), n > 0), f)
		}
	}
	if err := c.Write(pieces...); err != nil {
		return err
	}
	return c.Flush()
}
