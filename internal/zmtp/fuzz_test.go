package zmtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// bytesConn is a peer that sends given bytes, then ends, and takes all.
type bytesConn struct {
	r io.Reader
}

func (b *bytesConn) Read(p []byte) (int, error)       { return b.r.Read(p) }
func (b *bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (b *bytesConn) Close() error                     { return nil }
func (b *bytesConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (b *bytesConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (b *bytesConn) SetDeadline(time.Time) error      { return nil }
func (b *bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (b *bytesConn) SetWriteDeadline(time.Time) error { return nil }

func bytesPeer(role Role, sent []byte, l Limits) *Conn {
	l = l.withDefaults(role)
	return newConn(context.Background(), &bytesConn{bytes.NewReader(sent)}, role, l, NewMemory(l.MaxBuffered, l.MaxBuffered))
}

// No bytes make the handshake panic, even inside the library, and what it
// lets in is a fitting peer.
func FuzzHandshake(f *testing.F) {
	for _, role := range listenerRoles {
		kind := peerOf(role)
		for _, seed := range [][]byte{
			nil,
			{0xff},
			{1, 0},
			[]byte("GET / HTTP/1.1\r\n\r\n"), greeting(0),
			append(greeting(0), ready(kind)...), append(greeting(1), ready(kind)...),
			append(greeting(0), ready("NONSENSE")...), append(greeting(0), announce(flagCommand, 1<<62)...),
			append(greeting(0), appendCommand(nil, "READY", []byte("\x0bSocket-Type\x7f\xff\xff\xff"))...),
			append(greeting(0), appendCommand(nil, "READY", property("socket-type", kind))...),
			append(greeting(0), appendCommand(nil, "READY", property("Socket-Type", kind), property("X-\xc3\x28", "v"))...),
			append(append(greeting(0), announce(flagCommand, uint64(len(ready(kind))-2))...), ready(kind)[2:]...),
			append(greeting(0), appendCommand(nil, "ERROR", []byte("\x02no"))...),
		} {
			f.Add(string(role), seed)
		}
	}
	f.Fuzz(func(t *testing.T, role string, sent []byte) {
		r := Role(role)
		if r.peers() == nil {
			return
		}
		c := bytesPeer(r, sent, Limits{})
		err := c.handshake("", true, time.Time{})
		if err == nil {
			if !r.accepts(c.PeerRole()) || len(c.PeerIdentity()) > 255 {
				t.Errorf("%s let %q in", r, c.PeerRole())
			}
			return
		}
		var fault *PeerError
		if !errors.As(err, &fault) {
			t.Errorf("not the peer's fault: %v", err)
		}
		if bytes.Contains([]byte(err.Error()), []byte("panic")) {
			t.Errorf("the guard let through what the library panics of: %v", err)
		}
	})
}

// Reading any bytes ends with an error of a known kind, gives only frames
// within the limits, and the same ones however the bytes come in.
func FuzzFrames(f *testing.F) {
	for _, role := range listenerRoles {
		for _, seed := range [][]byte{
			nil, message("short"), AppendFrame(nil, make([]byte, 300), true), message("\x01prefix"), message("\x00prefix"),
			ping("context"), appendCommand(nil, "SUBSCRIBE", []byte("p")), appendCommand(nil, "CANCEL"),
			announce(0, 1<<62), announce(flagCommand, 1<<40),
			{flagCommand | flagMore, 0},
			{0x80, 0},
			{flagLong, 0, 0},
			bytes.Repeat(AppendFrame(nil, nil, true), 20), AppendFrame(message("before"), make([]byte, 2000), false),
			append(announce(0, 3), "abc"...),
		} {
			f.Add(string(role), seed)
		}
	}
	l := Limits{MaxFrame: 1000, MaxOversize: 1 << 20, MaxMessage: 3000, MaxParts: 10, MaxSubscriptionBytes: 500}
	f.Fuzz(func(t *testing.T, role string, sent []byte) {
		r := Role(role)
		if r.peers() == nil {
			return
		}
		whole := bytesPeer(r, sent, l)
		pieces := bytesPeer(r, sent, l)
		pieces.nc.(*bytesConn).r = oneByte{bytes.NewReader(sent)}
		parts, size := 0, 0
		for range len(sent) + 1 {
			a, errA := whole.Read()
			b, errB := pieces.Read()
			if (errA == nil) != (errB == nil) || errA != nil && errA.Error() != errB.Error() {
				t.Fatalf("%v in one piece, %v in many", errA, errB)
			}
			if errA != nil {
				var fault *PeerError
				if !errors.Is(errA, io.EOF) && !errors.Is(errA, io.ErrUnexpectedEOF) && !errors.As(errA, &fault) {
					t.Fatalf("ends with %v", errA)
				}
				if whole.buffers.used != 0 || whole.bodies.used != 0 {
					t.Fatal("memory is still booked")
				}
				return
			}
			if a.Kind != b.Kind || a.More != b.More || a.Size != b.Size || !bytes.Equal(a.Body, b.Body) {
				t.Fatalf("%v in one piece, %v in many", a, b)
			}
			if len(a.Body) > 1000 && a.Kind != Oversize || len(a.Body) > smallBuffer {
				t.Fatalf("a frame of %d bytes", len(a.Body))
			}
			if a.Kind == Message {
				size += len(a.Body)
			}
			if parts++; parts > 10 || size > 3000 {
				t.Fatalf("a message of %d parts and %d bytes", parts, size)
			}
			if !a.More {
				parts, size = 0, 0
			}
		}
		t.Fatal("more frames than bytes")
	})
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }
