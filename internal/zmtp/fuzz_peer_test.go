package zmtp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
)

// fuzzLimits are small, so that few bytes reach them.
var fuzzLimits = Limits{
	MaxFrame: 1000, MaxOversize: 1 << 20, MaxMessage: 3000, MaxParts: 10,
	MaxSubscriptions: 20, MaxSubscriptionBytes: 500, MaxBuffered: 1 << 20,
}

// servePeer is what a broker's handlers do with a connection: it follows
// subscriptions, reads what is sent in, and answers requests.
func servePeer(t *testing.T, c *Conn) {
	for {
		var err error
		switch c.role {
		case Pub:
			var f Frame
			if f, err = c.Read(); err != nil {
				break
			}
			switch f.Kind {
			case Subscribe:
				_, err = c.Subscriptions().Add(f.Body)
			case Cancel:
				c.Subscriptions().Remove(f.Body)
			}
			if n := c.Subscriptions().Len(); n > fuzzLimits.MaxSubscriptions {
				t.Errorf("%d subscriptions", n)
			}
		case Router:
			var envelope, body [][]byte
			envelope, body, err = ReadRequest(c)
			if errors.Is(err, ErrOversize) {
				err = nil
			}
			if size := len(bytes.Join(append(envelope, body...), nil)); size > int(fuzzLimits.MaxMessage) || len(envelope)+len(body) > fuzzLimits.MaxParts {
				t.Errorf("a request of %d bytes in %d parts", size, len(envelope)+len(body))
			}
			if err == nil {
				err = WriteReply(c, envelope, []byte("answer"))
			}
		default:
			_, err = ReadMessage(c)
			if errors.Is(err, ErrOversize) {
				err = nil
			}
		}
		if err != nil {
			return
		}
	}
}

// Whatever a peer sends, from its first byte to the end of its input, the
// connection ends, everything it took is given back, and what it was sent are
// whole frames.
func FuzzPeer(f *testing.F) {
	for _, role := range listenerRoles {
		open := append(greeting(1), ready(peerOf(role))...)
		for _, tail := range [][]byte{
			nil, message("short"), message("\x01prefix"), ping("context"), bytes.Repeat(ping(""), 50),
			append(message("\x01a"), append(ping("x"), message("\x00a")...)...),
			append(AppendFrame(nil, []byte("id"), true), append(AppendFrame(nil, nil, true), message(`{"type": "replay"}`)...)...),
			append(AppendFrame(nil, nil, true), AppendFrame(nil, make([]byte, 2000), false)...),
			bytes.Repeat(AppendFrame(nil, make([]byte, 300), true), 11),
			announce(0, 1<<62), appendCommand(nil, "SUBSCRIBE", []byte("p")), appendCommand(nil, "ERROR", []byte("\x02no")),
			{flagCommand | flagMore, 0},
		} {
			f.Add(string(role), append(bytes.Clone(open), tail...), byte(7))
		}
		f.Add(string(role), greeting(0), byte(1))
	}
	f.Fuzz(func(t *testing.T, role string, sent []byte, piece byte) {
		r := Role(role)
		if r.peers() == nil {
			return
		}
		l := NewListener(nil, ListenerOptions{Name: "fuzz", Role: r, Limits: fuzzLimits}, func(_ context.Context, c *Conn) { servePeer(t, c) })
		ours, theirs := net.Pipe()
		l.begin(t.Context(), pipeConn{ours})
		answered := make(chan []byte)
		go func() {
			all, _ := io.ReadAll(theirs) // its end is the connection's
			answered <- all
		}()
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+int(piece))
			if _, err := theirs.Write(rest[:n]); err != nil {
				break // it was enough
			}
			rest = rest[n:]
		}
		_ = theirs.Close()
		l.wg.Wait()
		wholeFrames(t, <-answered)
		if used := l.o.Memory.buffers.used + l.o.Memory.bodies.used + l.prefixes.used; used != 0 || l.Conns() != 0 {
			t.Errorf("%d bytes are still booked, %d connections there", used, l.Conns())
		}
	})
}

// wholeFrames checks what a peer was sent: a greeting and frames. The end may
// be cut.
func wholeFrames(t *testing.T, b []byte) {
	t.Helper()
	if len(b) < 64 {
		return
	}
	if b[0] != 0xff || b[9] != 0x7f {
		t.Fatalf("greeted with % x", b[:64])
	}
	for b = b[64:]; len(b) >= 9; {
		flags, head, size := b[0], 2, uint64(b[1])
		if flags&^(flagMore|flagLong|flagCommand) != 0 || flags&flagCommand != 0 && flags&flagMore != 0 {
			t.Fatalf("a frame with the flags %x", flags)
		}
		if flags&flagLong != 0 {
			head, size = 9, binary.BigEndian.Uint64(b[1:])
		}
		if size > 1<<10 {
			t.Fatalf("a frame of %d bytes, where none is as long", size)
		}
		b = b[min(len(b), head+int(size)):]
	}
}

// pipeConn is an end of a pipe with an address.
type pipeConn struct{ net.Conn }

func (pipeConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
