//go:build proof

package proof

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// attack is one way of being a bad peer.
type attack struct {
	name string
	row  int   // of docs/PROTOCOL.md, What a listener must withstand; 0 for HTTP and datagrams
	at   []int // the ports that it is tried at
	// holds tells that it keeps its connection for seconds.
	holds bool
	// do is one try. It leaves with h.stop when it is not dealt with as it
	// should be, or when all is over.
	do func(h *hostile)
}

// hostiles are all bad peers of a run and what became of them.
type hostiles struct {
	t      *testing.T
	b      *broker
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	open    atomic.Int64 // connections of attacks that hold theirs
	updates atomic.Int64 // good updates that bad peers sent over ZeroMQ
	packets atomic.Int64 // datagrams
	late    atomic.Int64 // handshakes that were not done in time

	mu      sync.Mutex // guards the rest
	tries   map[string]int
	byRow   map[int]int
	refused map[int]int // by port: connections that must have been counted
	unsure  map[int]int // … and those that may have been
	failed  int
}

func newHostiles(t *testing.T, b *broker) *hostiles {
	hs := &hostiles{
		t: t, b: b, tries: map[string]int{}, byRow: map[int]int{}, refused: map[int]int{}, unsure: map[int]int{},
	}
	hs.ctx, hs.cancel = context.WithCancel(t.Context())
	t.Cleanup(hs.end)
	return hs
}

// end ends them all and waits for it.
func (hs *hostiles) end() {
	hs.cancel()
	hs.done.Wait()
}

// pool keeps n bad peers at work, each at one attack after the other, with a
// pause between two of up to so long.
func (hs *hostiles) pool(n int, pause time.Duration, attacks []attack) {
	type aim struct {
		attack
		port int
	}
	var aims []aim
	for _, a := range attacks {
		for _, port := range a.at {
			aims = append(aims, aim{a, port})
		}
	}
	var next atomic.Int64
	for range n {
		hs.done.Go(func() {
			for hs.ctx.Err() == nil {
				i := int(next.Add(1)-1) % len(aims)
				hs.try(aims[i].attack, aims[i].port)
				select {
				case <-time.After(rand.N(pause)):
				case <-hs.ctx.Done():
				}
			}
		})
	}
}

// stopped is the panic that ends a try.
type stopped struct{}

// try makes one attack.
func (hs *hostiles) try(a attack, port int) {
	h := &hostile{hostiles: hs, attack: a, port: port}
	hs.mu.Lock()
	hs.tries[a.name]++
	hs.byRow[a.row]++
	hs.mu.Unlock()
	if a.holds {
		hs.open.Add(1)
		defer hs.open.Add(-1)
	}
	h.run(func() { a.do(h) })
	for _, c := range h.conns {
		c.close()
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.over || h.perhaps {
		hs.unsure[port] += len(h.conns)
	} else {
		hs.refused[port] += h.refusals
	}
}

// run runs f until stop or fails ends it.
func (h *hostile) run(f func()) {
	defer func() {
		if r := recover(); r != nil && r != (stopped{}) {
			panic(r)
		}
	}()
	f()
}

// hostile is one bad peer in one attack.
type hostile struct {
	*hostiles
	attack

	port     int
	conns    []*badConn
	refusals int  // of its connections that the broker must have counted
	perhaps  bool // it may count them or not
	over     bool // the attack was ended with the run
}

// fails tells what the broker did wrong, and ends the attack.
func (h *hostile) fails(format string, args ...any) {
	h.stop()
	h.mu.Lock()
	h.failed++
	first := h.failed <= 20
	h.mu.Unlock()
	if first {
		h.t.Errorf("row %d, %s, port +%d: %s", h.row, h.name, h.port, fmt.Sprintf(format, args...))
	}
	panic(stopped{})
}

// stop ends the attack if all is over.
func (h *hostile) stop() {
	if h.ctx.Err() != nil {
		h.mu.Lock()
		h.over = true
		h.mu.Unlock()
		panic(stopped{})
	}
}

// badConn is a connection of a bad peer.
type badConn struct {
	h *hostile
	net.Conn
	br    *bufio.Reader
	close func()
}

// lasting bounds every wait of an attack: only when the broker fails to do
// something it is waited for in full.
const lasting = 70 * time.Second

// dial connects from some address of the loopback network.
func (h *hostile) dial() *badConn {
	h.stop()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(rand.IntN(4)), byte(1+rand.IntN(250)))}}
	nc, err := d.DialContext(h.ctx, "tcp", h.b.addr(h.port))
	if err != nil {
		h.fails("connecting: %v", err)
	}
	// Little of what the broker sends fits into the kernel.
	_ = nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	_ = nc.SetDeadline(time.Now().Add(lasting))
	end := context.AfterFunc(h.ctx, func() { _ = nc.Close() })
	c := &badConn{h: h, Conn: nc, br: bufio.NewReaderSize(nc, 4<<10)}
	c.close = func() {
		end()
		_ = nc.Close()
	}
	h.mu.Lock()
	h.conns = append(h.conns, c)
	h.mu.Unlock()
	return c
}

// shake dials and makes a good handshake.
func (h *hostile) shake() *badConn { return h.shakeAs(peerType[h.port], 1) }

func (h *hostile) shakeAs(socketType string, minor byte) *badConn {
	c := h.dial()
	c.say(greeting(minor), readyAs(socketType))
	c.shaken()
	return c
}

// shaken reads the broker's greeting and READY. On a machine that is very
// busy it may take longer than the broker gives it: then the attack ends.
func (c *badConn) shaken() {
	_, err := io.ReadFull(c.br, make([]byte, 64))
	if err == nil {
		_, err = c.br.Peek(1)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.h.stop()
		c.h.perhaps = true
		c.h.late.Add(1)
		panic(stopped{})
	}
	if flags, body := c.frame(); flags != flagCommand || len(body) < 6 || string(body[:6]) != "\x05READY" {
		c.h.fails("no READY: %q", body)
	}
}

// frame reads one frame.
func (c *badConn) frame() (flags byte, body []byte) {
	flags, body, err := readFrame(c.br)
	if err != nil {
		c.h.fails("reading a frame: %v", err)
	}
	return flags, body
}

func readFrame(r *bufio.Reader) (flags byte, body []byte, err error) {
	var head [8]byte
	if flags, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	size := head[7:]
	if flags&flagLong != 0 {
		size = head[:]
	}
	if _, err := io.ReadFull(r, size); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint64(head[:]))
	_, err = io.ReadFull(r, body)
	return flags, body, err
}

// message reads the frames of one message, past PONGs.
func (c *badConn) message() (parts []string) {
	for {
		flags, body := c.frame()
		if flags&flagCommand != 0 {
			continue
		}
		parts = append(parts, string(body))
		if flags&flagMore == 0 {
			return parts
		}
	}
}

// say sends; it is false when the broker has closed the connection.
func (c *badConn) say(pieces ...[]byte) bool {
	for _, p := range pieces {
		if _, err := c.Write(p); err != nil {
			c.h.stop()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.h.fails("nothing is read, and the connection is not closed")
			}
			return false
		}
	}
	return true
}

// drip sends byte by byte until the broker has closed the connection or it
// has said everything.
func (c *badConn) drip(p []byte, every time.Duration) bool {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range p {
		if !c.say(p[i : i+1]) {
			return false
		}
		select {
		case <-tick.C:
		case <-c.h.ctx.Done():
			c.h.stop()
		}
	}
	return true
}

// closed waits until the broker closes the connection, taking what it sends.
func (c *badConn) closed() {
	_, err := io.Copy(io.Discard, c.br)
	c.h.stop()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.h.fails("the connection is not closed")
	}
}

// isRefused waits for the connection to be closed, and demands that it is
// counted.
func (c *badConn) isRefused() {
	c.closed()
	c.h.refusals++
}

// hold keeps the connection, taking nothing, for a while of chance. What
// becomes of it is the broker's choice.
func (c *badConn) hold() {
	c.h.perhaps = true
	select {
	case <-time.After(5*time.Second + rand.N(15*time.Second)):
	case <-c.h.ctx.Done():
		c.h.stop()
	}
}

// trickle takes some bytes at a time, for a while of chance, or until the
// broker closes the connection.
func (c *badConn) trickle(n int) {
	c.h.perhaps = true
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	over := time.After(10*time.Second + rand.N(20*time.Second))
	p := make([]byte, n)
	for {
		// Not through the buffer, which would take more.
		if _, err := c.Conn.Read(p); err != nil {
			c.h.stop()
			return
		}
		select {
		case <-tick.C:
		case <-over:
			return
		case <-c.h.ctx.Done():
			c.h.stop()
		}
	}
}

// halfClose tells the broker that nothing more comes, and waits until it has
// closed its side: then it has read everything.
func (c *badConn) halfClose() {
	_ = c.Conn.(*net.TCPConn).CloseWrite() // the broker may have closed it already
	c.closed()
}
