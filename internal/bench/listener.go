package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"tbhist/internal/wire"
)

// listener is a subscriber that costs as little as can be, so that a
// thousand of them fit into this process beside a broker: it reads as much
// as there is with one system call, and looks at frames in place.
type listener struct {
	c    net.Conn
	buf  []byte // grows to the largest frame
	r, w int    // buf[r:w] was read and not looked at

	seen  int             // updates
	last  uint64          // seq of the newest
	times []time.Duration // from sending, of each burst or update that is looked at
	err   error           // why it ended before it had all
}

// The bytes of a subscriber's ZMTP 3.0: docs/PROTOCOL.md, Endpoints.
const (
	greetingBytes = 64
	readySub      = "\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
	frameLong     = 0x02
	frameCommand  = 0x04
)

func greeting() []byte {
	g := make([]byte, greetingBytes)
	g[0], g[9], g[10] = 0xff, 0x7f, 3
	copy(g[12:], "NULL")
	return g
}

// subscription gives the frame that begins one, or ends it.
func subscription(on bool, prefix []byte) []byte {
	b := []byte{0, byte(1 + len(prefix)), 0}
	if on {
		b[2] = 1
	}
	return append(b, prefix...)
}

// listen gives a listener with a buffer of so many bytes whose subscriptions
// to prefixes, each of fewer than 255 bytes, are at work: the heartbeat that
// it asks for behind them has come.
func (br *broker) listen(ctx context.Context, bytes int, prefixes ...[]byte) (*listener, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", br.addr(feedPort))
	if err != nil {
		return nil, err
	}
	l := &listener{c: c, buf: make([]byte, bytes)}
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	if err := l.open(prefixes); err != nil {
		l.close()
		return nil, fmt.Errorf("a listener: %w", errors.Join(context.Cause(ctx), err))
	}
	return l, nil
}

func (l *listener) open(prefixes [][]byte) error {
	if err := l.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := l.c.Write(greeting()); err != nil {
		return err
	}
	if _, err := io.ReadFull(l.c, make([]byte, greetingBytes)); err != nil {
		return err
	}
	hello := []byte(readySub)
	for _, p := range prefixes {
		hello = append(hello, subscription(true, p)...)
	}
	heartbeat := []byte(wire.HeartbeatPrefix)
	if _, err := l.c.Write(append(hello, subscription(true, heartbeat)...)); err != nil {
		return err
	}
	if _, err := l.await(heartbeat); err != nil {
		return err
	}
	if _, err := l.c.Write(subscription(false, heartbeat)); err != nil {
		return err
	}
	return l.c.SetDeadline(time.Time{})
}

// await reads up to the first message that begins with prefix, and gives it.
func (l *listener) await(prefix []byte) ([]byte, error) {
	for {
		for m := l.next(); m != nil; m = l.next() {
			if bytes.HasPrefix(m, prefix) {
				return m, nil
			}
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
}

func (l *listener) close() { _ = l.c.Close() } // nothing more is wanted of it

// fill reads once.
func (l *listener) fill() error {
	l.w = copy(l.buf, l.buf[l.r:l.w])
	l.r = 0
	if l.w == len(l.buf) {
		l.buf = append(l.buf, make([]byte, max(len(l.buf), fewBuffer))...)
	}
	n, err := l.c.Read(l.buf[l.w:])
	l.w += n
	if n > 0 {
		return nil
	}
	return err
}

// fillUnless is fill unless there is something to look at already, which came
// with the heartbeat.
func (l *listener) fillUnless(begun bool) error {
	if begun {
		return nil
	}
	return l.fill()
}

// next gives the next message that was read whole, nil when there is none.
// It is valid until fill.
func (l *listener) next() []byte {
	for {
		b := l.buf[l.r:l.w]
		if len(b) < 2 {
			return nil
		}
		head, size := 2, uint64(b[1])
		if b[0]&frameLong != 0 {
			if len(b) < 9 {
				return nil
			}
			head, size = 9, binary.BigEndian.Uint64(b[1:])
		}
		if size > uint64(len(b)-head) {
			return nil
		}
		l.r += head + int(size)
		if b[0]&frameCommand == 0 {
			return b[head : head+int(size)]
		}
	}
}

var (
	updatePrefix = []byte(wire.UpdatePrefix)
	seqMember    = []byte(`, "seq": `)
)

// seqOf scans for the seq of an update.
func seqOf(update []byte) (uint64, error) {
	i := bytes.LastIndex(update, seqMember)
	if i < 0 {
		return 0, fmt.Errorf("an update has no seq: %.100q", update)
	}
	digits := update[i+len(seqMember):]
	if j := bytes.IndexByte(digits, ','); j >= 0 {
		digits = digits[:j]
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("seq %q of an update: %w", digits, err)
	}
	return seq, nil
}
