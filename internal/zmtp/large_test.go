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

// patterned gives n bytes that tell where they stand.
func patterned(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16) ^ seed
	}
	return b
}

// Large bodies come whole on dialled connections, which are given one piece
// of memory after another, and on accepted ones.
func TestLargeBodies(t *testing.T) {
	for name, dialled := range map[string]bool{"dialled": true, "accepted": false} {
		t.Run(name, func(t *testing.T) {
			c, far := pipe(t, Dealer, Limits{MaxFrame: trusted + 2<<20, MaxMessage: 256 << 20})
			if dialled {
				c.bodies = nil
			}
			sizes := []int{largeBuffer, 100_000, 3 << 20, 70_000, 3<<20 + 5, trusted + 1<<20, 5, 200_000}
			var stream []byte
			for i, n := range sizes {
				stream = AppendFrame(stream, patterned(n, byte(i)), false)
			}
			sent := feeder(far, stream, 1, 1<<20)
			for i, n := range sizes {
				f, err := c.Read()
				if err != nil || !bytes.Equal(f.Body, patterned(n, byte(i))) {
					t.Fatalf("frame %d: %d bytes, %v", i, len(f.Body), err)
				}
			}
			if _, err := c.Read(); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
			<-sent
		})
	}
}

// The frames of a message that was read are the reader's, whatever is read
// after them.
func TestReadMessageGivesItsFramesAway(t *testing.T) {
	c, far := pipe(t, Dealer, Limits{MaxFrame: 4 << 20, MaxMessage: 64 << 20})
	c.bodies = nil
	sizes := []int{10, 1 << 20, 300_000, 1 << 20}
	var stream []byte
	for range 3 {
		for i, n := range sizes {
			stream = AppendFrame(stream, patterned(n, byte(i)), i < len(sizes)-1)
		}
	}
	sent := feeder(far, stream, 1, 1<<20)
	var messages [][][]byte
	for range 3 {
		m, err := ReadMessage(c)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	for _, m := range messages {
		for i, f := range m {
			if !bytes.Equal(f, patterned(sizes[i], byte(i))) {
				t.Errorf("frame %d has changed", i)
			}
		}
	}
	<-sent
}

// A reply in pieces is the same message as one whose frames are whole.
func TestWriteReplyPieces(t *testing.T) {
	envelope := [][]byte{[]byte("id"), nil}
	for name, pieces := range map[string][][]byte{
		"none": nil, "empty": {nil}, "small": {[]byte("a"), nil, []byte("bc")},
		"large": {patterned(300_000, 1), patterned(10, 2), patterned(largeBuffer, 3), patterned(largeBuffer-1, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			c, far := pipe(t, Router, Limits{})
			go func() {
				defer c.Close()
				if err := WriteReplyPieces(c, envelope, []byte("head"), pieces); err != nil {
					t.Error(err)
				}
			}()
			var want []byte
			for _, f := range [][]byte{envelope[0], envelope[1], []byte("head")} {
				want = AppendFrame(want, f, true)
			}
			want = AppendFrame(want, bytes.Join(pieces, nil), false)
			if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
			}
		})
	}
}

// A peer that has ended its side after a request can still be answered.
func TestAwaitLeavesTheConnection(t *testing.T) {
	c, far := pipe(t, Router, Limits{})
	if _, err := far.Write(message("ask")); err != nil {
		t.Fatal(err)
	}
	if err := c.Await(); err != nil {
		t.Fatal(err)
	}
	if f, err := c.Read(); err != nil || string(f.Body) != "ask" {
		t.Fatalf("%q, %v", f.Body, err)
	}
	if err := far.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Await(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if err := WriteReply(c, nil, []byte("answer")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(message("answer")))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, message("answer")) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Read(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if c.Context().Err() == nil {
		t.Error("Read did not close the connection")
	}
}

// A peer that takes a long answer slowly cannot answer PINGs meanwhile, and
// is not silent.
func TestSlowTakerIsNotSilent(t *testing.T) {
	const interval = 20 * time.Millisecond
	c, far := pipe(t, Router, Limits{})
	c.interval = interval
	if err := c.nc.(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if err := far.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	body := patterned(16<<20, 0)
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan struct{})
	written := make(chan error, 1)
	go func() {
		defer close(read)
		for ctx.Err() == nil {
			if c.Await() != nil {
				return
			}
		}
	}()
	go func() { written <- WriteReply(c, nil, body) }()
	defer func() {
		cancel()
		_ = c.Close()
		<-read
	}()
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	got, piece := 0, make([]byte, 32<<10)
	for range 30 { // longer than silence would be borne
		n, err := far.Read(piece)
		if err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		got += n
		<-tick.C
	}
	if _, err := io.CopyN(io.Discard, far, int64(maxHeader+len(body)-got)); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
