package zmtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// pipe gives a connection past its handshake, and the other end of it.
func pipe(t testing.TB, role Role, l Limits) (*Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l = l.withDefaults(role)
	c := newConn(context.Background(), near, role, l, NewMemory(l.MaxBuffered, l.MaxBuffered))
	t.Cleanup(func() {
		_ = c.Close()
		_ = far.Close()
	})
	return c, far
}

// feeder writes to far in pieces of chance sizes, and ends it.
func feeder(far net.Conn, b []byte, seed uint64, most int) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := rand.New(rand.NewPCG(seed, 0))
		for len(b) > 0 {
			n := min(1+r.IntN(most), len(b))
			if _, err := far.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	return done
}

func TestReadFramesOfAllSizes(t *testing.T) {
	sizes := []int{
		0, 1, 2, 214, 254, 255, 256, 257, 1021, 1022, 1023, 1024, 4000, largeBuffer - 10, largeBuffer - 9, largeBuffer - 8,
		largeBuffer, 2 * largeBuffer, 2*largeBuffer + 1, 300_000, 1 << 20,
	}
	for _, most := range []int{1, 7, 3000, 1 << 20} {
		var sent [][]byte
		var stream []byte
		r := rand.New(rand.NewPCG(uint64(most), 1))
		for i := range 60 {
			size := sizes[r.IntN(len(sizes))]
			if most < 100 {
				size %= 3000
			}
			if i == 0 && most > 100 {
				size = 1 << 20
			}
			body := bytes.Repeat([]byte{byte(i)}, size)
			sent = append(sent, body)
			stream = AppendFrame(stream, body, false)
			if r.IntN(3) == 0 {
				stream = append(stream, ping("between")...)
			}
		}
		c, far := pipe(t, Sub, Limits{})
		done := feeder(far, stream, 1, most)
		go func() { _, _ = io.Copy(io.Discard, far) }()
		for i, want := range sent {
			whole := c.FrameBuffered()
			f, err := c.Read()
			if err != nil {
				t.Fatalf("pieces of %d: frame %d: %v", most, i, err)
			}
			if !bytes.Equal(f.Body, want) || f.Kind != Message || f.Size != int64(len(want)) || f.More {
				t.Fatalf("pieces of %d: frame %d has %d bytes of kind %d, not %d", most, i, len(f.Body), f.Kind, len(want))
			}
			if whole && c.midFrame.Load() != 0 {
				t.Fatal("a buffered frame was waited for")
			}
		}
		for range 2 {
			if _, err := c.Read(); !errors.Is(err, io.EOF) {
				t.Fatalf("at the end: %v", err)
			}
		}
		<-done
		if c.buffers.used != 0 || c.bodies.used != 0 || c.in.lent != nil {
			t.Errorf("%d and %d bytes are still booked", c.buffers.used, c.bodies.used)
		}
	}
}

// Bodies stay as they are until the next Read, also while FrameBuffered and
// Buffered are asked.
func TestReadMultipart(t *testing.T) {
	c, far := pipe(t, Router, Limits{})
	stream := AppendFrame(nil, []byte("one"), true)
	stream = append(stream, ping("between parts")...)
	stream = AppendFrame(stream, bytes.Repeat([]byte("2"), 5000), true)
	stream = AppendFrame(stream, nil, false)
	stream = AppendFrame(stream, []byte("alone"), false)
	stream = AppendFrame(stream, []byte("cut"), true)
	done := feeder(far, stream, 2, 100)
	want := []Frame{
		{More: true, Body: []byte("one")}, {More: true, Body: bytes.Repeat([]byte("2"), 5000)}, {}, {Body: []byte("alone")}, {More: true, Body: []byte("cut")},
	}
	for i, w := range want {
		f, err := c.Read()
		_, _ = c.FrameBuffered(), c.Buffered()
		if err != nil || f.More != w.More || !bytes.Equal(f.Body, w.Body) {
			t.Fatalf("frame %d: %v %q, %v", i, f.More, f.Body, err)
		}
	}
	if _, err := c.Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("a message cut between its parts ends with %v", err)
	}
	<-done
}

func TestFrameBuffered(t *testing.T) {
	c, far := pipe(t, Sub, Limits{})
	first, second := message("first"), message("second")
	stream := append(append(append(bytes.Clone(first), ping("x")...), second...), message("third")[:4]...)
	if _, err := far.Write(stream); err != nil {
		t.Fatal(err)
	}
	if err := c.need(len(stream)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		if !c.FrameBuffered() {
			t.Fatalf("%s is not buffered", want)
		}
		if f, err := c.Read(); err != nil || string(f.Body) != want {
			t.Fatalf("%q, %v", f.Body, err)
		}
	}
	if c.FrameBuffered() || c.Buffered() != 4 {
		t.Errorf("the third frame is buffered whole, or not %d bytes of it", c.Buffered())
	}
	// A command is nothing that Read gives.
	d, far := pipe(t, Sub, Limits{})
	if _, err := far.Write(ping("only")); err != nil {
		t.Fatal(err)
	}
	if err := d.need(5); err != nil {
		t.Fatal(err)
	}
	if d.FrameBuffered() {
		t.Error("a command is taken for a frame to read")
	}
}

func TestOversize(t *testing.T) {
	l := Limits{MaxFrame: 1000, MaxOversize: 10 << 20, MaxMessage: 3000}
	for _, size := range []int{1001, 1100, 70_000, 5 << 20, 10 << 20} {
		for _, most := range []int{500, 1 << 20} {
			if most == 500 && size > 100_000 {
				continue
			}
			c, far := pipe(t, Sub, l)
			body := make([]byte, size)
			copy(body, "the beginning")
			body[min(size, 1024)-1] = 'e'
			stream := append(AppendFrame(message("before"), body, false), message("after")...)
			done := feeder(far, stream, 3, most)
			if f, err := c.Read(); err != nil || string(f.Body) != "before" {
				t.Fatalf("%q, %v", f.Body, err)
			}
			f, err := c.Read()
			if err != nil || f.Kind != Oversize || f.Size != int64(size) || !bytes.Equal(f.Body, body[:min(size, smallBuffer)]) {
				t.Fatalf("%d bytes: kind %d, size %d, %d bytes, %v", size, f.Kind, f.Size, len(f.Body), err)
			}
			if f, err := c.Read(); err != nil || string(f.Body) != "after" {
				t.Fatalf("%q, %v", f.Body, err)
			}
			if _, err := c.Read(); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			<-done
		}
	}
	c, far := pipe(t, Sub, l)
	if _, err := far.Write(announce(0, 10<<20+1)); err != nil {
		t.Fatal(err)
	}
	var fault *PeerError
	if _, err := c.Read(); !errors.As(err, &fault) || fault.Reason != refusedTooLarge {
		t.Errorf("beyond MaxOversize: %v", err)
	}
}

func TestOversizeRequest(t *testing.T) {
	tl := listen(t, ListenerOptions{Role: Router, Limits: Limits{MaxFrame: 1000, MaxOversize: 1 << 20}}, serveRole(Router, nil))
	c, err := Dial(t.Context(), tl.addr, DialOptions{Role: Req})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for _, q := range []string{"small", strings.Repeat("x", 1001), "small again", strings.Repeat("x", 1<<20)} {
		want := q
		if len(q) > 1000 {
			want = "too large"
		}
		reply, err := Request(deadlineContext(t), c, []byte(q))
		if err != nil || len(reply) != 1 || string(reply[0]) != want {
			t.Fatalf("%.20q gave %q, %v", q, reply, err)
		}
	}
}

// A reader that takes a little now and then lives, however slow.
func TestSlowReaderLives(t *testing.T) {
	const deadline = time.Second
	c, far := pipe(t, Pub, Limits{WriteDeadline: deadline})
	if err := c.nc.(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	body := make([]byte, 16<<20)
	start := time.Now()
	go func() { written <- c.Write(AppendFrame(nil, body, false)) }()
	tick := time.NewTicker(deadline / 20)
	defer tick.Stop()
	got, piece := 0, make([]byte, 256<<10)
	for got < len(body)+maxHeader {
		n, err := io.ReadAtLeast(far, piece, 1)
		if err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		got += n
		<-tick.C
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 2*deadline {
		t.Fatalf("the reader was not slow: %v", took)
	}
}

// Close unblocks a Read and a Write that wait.
func TestCloseUnblocks(t *testing.T) {
	c, _ := pipe(t, Sub, Limits{})
	ended := make(chan error, 2)
	go func() {
		_, err := c.Read()
		ended <- err
	}()
	blocked := make(chan struct{})
	go func() {
		frame := AppendFrame(nil, make([]byte, 60000), false)
		for i := 0; ; i++ {
			if i == 10 {
				close(blocked)
			}
			if err := c.Write(frame); err != nil {
				ended <- err
				return
			}
		}
	}()
	<-blocked
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	for range 2 {
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("still waiting")
		}
	}
	if c.Context().Err() == nil {
		t.Error("the context did not end")
	}
	if err := c.Write(message("late")); err == nil {
		if err := c.Flush(); err == nil {
			t.Error("a closed connection was written to")
		}
	}
}

// Finish delivers everything to a peer that has sent what nobody read.
func TestFinish(t *testing.T) {
	c, far := pipe(t, Pub, Limits{})
	if _, err := far.Write(message("\x01unread")); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 500_000)
	var writing sync.WaitGroup
	writing.Go(func() {
		if err := c.Write(AppendFrame(nil, body, false)); err != nil {
			t.Error(err)
		}
		if err := c.Finish(deadlineContext(t)); err != nil {
			t.Error(err)
		}
	})
	b, err := io.ReadAll(far)
	if err != nil || len(b) != len(body)+maxHeader {
		t.Errorf("%d bytes arrived, %v", len(b), err)
	}
	_ = far.Close()
	<-c.Context().Done()
	writing.Wait()

	d, _ := pipe(t, Pub, Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v", err)
	}
}

// When memory for unfinished frames runs out, those who have been stuck in
// one for long make room, and others go on.
func TestBudget(t *testing.T) {
	for name, size := range map[string]int{"bodies": 1 << 20, "buffers": 60_000} {
		t.Run(name, func(t *testing.T) {
			const limit = 4 << 20
			tl := listen(t, ListenerOptions{Role: Sub, Limits: Limits{MaxBuffered: limit}}, serveRole(Sub, nil))
			held := func(b *budget) int64 {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.used
			}
			for _, b := range []*budget{tl.o.Memory.buffers, tl.o.Memory.bodies} {
				b.mu.Lock()
				b.grace = 20 * time.Millisecond
				b.mu.Unlock()
			}
			frame := AppendFrame(nil, make([]byte, size), false)
			stuck := 3 * limit / size
			for range stuck {
				r := shake(t, tl.addr, "PUB", 1)
				go func() { r.send(frame[:size-100]) }()
			}
			// The good one begins when all others are stuck: where it is slow for a
			// moment, it is never the one that has been so for the longest.
			wanted := tl.o.Memory.bodies
			if size < largeBuffer {
				wanted = tl.o.Memory.buffers
			}
			wait(t, "all are stuck", func() bool {
				wanted.mu.Lock()
				defer wanted.mu.Unlock()
				return len(wanted.held)+tl.count(refusedMemory) >= stuck
			})
			good := shake(t, tl.addr, "PUB", 1)
			wait(t, "the stuck made room", func() bool {
				good.send(frame)
				check(good, Sub)
				// Buffers are lent before those who are stuck can be told from
				// those who are slow, so that the bound holds a moment later.
				return tl.count(refusedMemory) >= stuck-limit/size &&
					held(tl.o.Memory.buffers)+held(tl.o.Memory.bodies) <= limit+2*largeBuffer
			})
			if n := tl.Conns(); n < limit/size/2 {
				t.Errorf("only %d connections are left", n)
			}
			check(good, Sub)
		})
	}
}

// Messages of which the end does not come are held in the same memory, and so
// are those that are not dealt with: nobody makes many connections hold one.
func TestBudgetOfMessages(t *testing.T) {
	for name, part := range map[string]int{"large parts": 1 << 20, "small parts": 60_000} {
		t.Run(name, func(t *testing.T) {
			const limit, size = 4 << 20, 1 << 20
			memory := NewMemory(limit, limit)
			memory.bodies.grace = 20 * time.Millisecond
			tl := listen(t, ListenerOptions{
				Role: Router, Memory: memory, Limits: Limits{MaxFrame: 1 << 20, MaxMessage: 2 << 20},
			}, serveRole(Router, nil))
			const stuck = 20
			parts := bytes.Repeat(AppendFrame(nil, make([]byte, part), true), size/part)
			for range stuck {
				r := shake(t, tl.addr, "DEALER", 1)
				go func() { r.send(parts) }()
			}
			good := shake(t, tl.addr, "DEALER", 1)
			wait(t, "the stuck made room", func() bool {
				check(good, Router)
				return tl.count(refusedMemory) >= stuck-limit/size
			})
			memory.bodies.mu.Lock()
			if memory.bodies.used > limit {
				t.Errorf("%d bytes are held", memory.bodies.used)
			}
			memory.bodies.mu.Unlock()
			for range 3 { // a large one is held while it is answered, and no longer
				good.send(AppendFrame(nil, nil, true), AppendFrame(nil, make([]byte, size), false))
				good.frame()
				if _, body := good.frame(); len(body) != size {
					t.Fatalf("answered with %d bytes", len(body))
				}
			}
		})
	}
}

// Writers that are held up by slow peers do not each hold a large buffer: of
// those there are so many, and beyond them small ones, and none. All of them
// come back.
func TestOutBudget(t *testing.T) {
	const peers = maxOut/middleBuffer + 100
	var b outBudget
	var lent [][]byte
	total := 0
	for range peers {
		if buf := b.lend(); buf != nil {
			lent = append(lent, buf)
			total += len(buf)
		}
	}
	if total > maxOut || b.lend() != nil {
		t.Errorf("%d bytes are lent", total)
	}
	for _, buf := range lent {
		b.takeBack(buf)
	}
	if b.used.Load() != 0 || len(b.lend()) != largeBuffer {
		t.Errorf("%d bytes are still lent", b.used.Load())
	}

	// Without a buffer the same bytes go out.
	memory := NewMemory(1<<20, 1<<20)
	tl := listen(t, ListenerOptions{Role: Router, Memory: memory}, serveRole(Router, nil))
	memory.out.used.Store(maxOut)
	works(t, tl.addr, Router)
	memory.out.used.Store(0)
	r := shake(t, tl.addr, "DEALER", 0)
	check(r, Router)
	_ = r.Close()
	wait(t, "nothing is lent", func() bool { return tl.Conns() == 0 && memory.out.used.Load() == 0 })
}

func TestHeartbeat(t *testing.T) {
	const interval = 30 * time.Millisecond
	t.Run("answered", func(t *testing.T) {
		c, far := pipe(t, Sub, Limits{})
		c.interval = interval
		pings := make(chan string, 100)
		go func() {
			defer close(pings)
			r := &raw{Conn: far, t: t}
			for {
				var head [2]byte
				if _, err := io.ReadFull(far, head[:]); err != nil {
					return
				}
				body := make([]byte, head[1])
				if _, err := io.ReadFull(far, body); err != nil {
					return
				}
				pings <- string(body)
				if len(pings) == 5 {
					r.send(message("done"))
				}
				r.send(appendCommand(nil, "PONG"))
			}
		}()
		if f, err := c.Read(); err != nil || string(f.Body) != "done" {
			t.Fatalf("%q, %v", f.Body, err)
		}
		if p := <-pings; p != "\x04PING\x00\x02" {
			t.Errorf("%q", p)
		}
		_ = c.Close()
		for range pings { // until it has ended
		}
	})
	t.Run("silent peer", func(t *testing.T) {
		c, _ := pipe(t, Sub, Limits{})
		c.interval = interval
		start := time.Now()
		if _, err := c.Read(); !errors.Is(err, ErrPeerSilent) {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took < 2*interval {
			t.Errorf("given up after %v", took)
		}
		if err := c.Write(message("x")); err == nil {
			err = c.Flush()
			if !errors.Is(err, ErrPeerSilent) {
				t.Errorf("writing afterwards: %v", err)
			}
		}
	})
}
