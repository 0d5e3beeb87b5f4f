package zmtp

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// Names of the commands that mean something after the handshake.
const (
	cmdPing      = "PING"
	cmdPong      = "PONG"
	cmdSubscribe = "SUBSCRIBE"
	cmdCancel    = "CANCEL"
)

// maxContext is how much of a PING's context is echoed.
const maxContext = 16

// command handles one command; ok is true for a subscription.
func (c *Conn) command(body []byte) (f Frame, ok bool, err error) {
	name, data, ok := splitCommand(body)
	if !ok {
		return Frame{}, false, peerError(refusedProtocol, "a command without a name")
	}
	switch string(name) {
	case cmdPing: // a time to live of 2 bytes, and a context
		data = data[min(2, len(data)):]
		full := c.control.pong(data[:min(maxContext, len(data))])
		// In a flood one system call sends many PONGs.
		if b := c.in.bytes(); full || len(b) == 0 || b[0]&flagCommand == 0 {
			c.sendControl()
		}
	case cmdSubscribe, cmdCancel:
		if c.role != Pub {
			return Frame{}, false, nil
		}
		f = Frame{Kind: Subscribe, Body: data, Size: int64(len(data))}
		if string(name) == cmdCancel {
			f.Kind = Cancel
		}
		return f, true, nil
	}
	return Frame{}, false, nil
}

// splitCommand splits a command's body into name and data.
func splitCommand(body []byte) (name, data []byte, ok bool) {
	if len(body) == 0 || body[0] == 0 || int(body[0]) > len(body)-1 {
		return nil, nil, false
	}
	n := 1 + int(body[0])
	return body[1:n], body[n:], true
}

// control holds the commands that wait to be sent. Whoever holds the write
// lock sends them before letting go of it, so that the reader never waits
// behind a writer that a slow peer holds up.
type control struct {
	mu      sync.Mutex // held for moments only; after output.mu
	waiting atomic.Bool
	framed  []byte
}

// maxControl bounds the bytes of commands that wait. PONGs beyond it are
// dropped: any answer tells the peer that this side lives.
const maxControl = 1 << 10

func (q *control) pong(context []byte) (full bool) { return q.add(cmdPong, context) }

func (q *control) ping(interval time.Duration) {
	// The peer may take this side for dead when nothing comes for four
	// intervals; the unit is a tenth of a second.
	ttl := min(4*interval/(100*time.Millisecond)+1, 0xffff)
	q.add(cmdPing, binary.BigEndian.AppendUint16(nil, uint16(ttl)))
}

// add queues a command; full tells that no other has room.
func (q *control) add(name string, data []byte) (full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.framed) < maxControl {
		q.framed = appendCommand(q.framed, name, data)
	}
	q.waiting.Store(true)
	return len(q.framed) >= maxControl
}

// take gives what waits, and keeps spare for what comes next.
func (q *control) take(spare []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	framed := q.framed
	q.framed = spare[:0]
	q.waiting.Store(false)
	return framed
}
