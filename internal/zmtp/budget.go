package zmtp

import (
	"sync"
	"sync/atomic"
	"time"
)

// Memory bounds what the connections of one or more listeners hold together
// of what has not come in whole, or not gone out.
type Memory struct {
	// buffers is for what lend gives to read into, bodies for bodies that no
	// buffer holds and messages of many parts.
	buffers, bodies *budget
	out             outBudget
}

// NewMemory makes one that bounds buffers and bodies to so many bytes each;
// bodies should have room for some frames of the largest size. Limits says
// what happens when there is no more.
func NewMemory(buffers, bodies int64) *Memory {
	return &Memory{buffers: newBudget(buffers), bodies: newBudget(bodies)}
}

// What is lent to write from, by all connections together: so much in large
// buffers, so much in all. Beyond it, what is written goes out piece by
// piece: only peers that are slow to take it hold a buffer for long.
const (
	maxOutLarge = 8 << 20
	maxOut      = 12 << 20
)

// outBudget bounds what is lent to write from. A nil one is without bound.
type outBudget struct{ used atomic.Int64 }

// lend gives the largest buffer for which there is room, nil for none.
func (b *outBudget) lend() []byte {
	if b == nil || b.take(largeBuffer, maxOutLarge) {
		return lend(largeBuffer)
	}
	if b.take(middleBuffer, maxOut) {
		return lend(middleBuffer)
	}
	return nil
}

func (b *outBudget) take(n, most int64) bool {
	if b.used.Add(n) <= most {
		return true
	}
	b.used.Add(-n)
	return false
}

func (b *outBudget) takeBack(buf []byte) {
	if b != nil {
		b.used.Add(-int64(len(buf)))
	}
	takeBack(buf)
}

// budget bounds one kind of memory that connections hold for what has not
// come in whole. A nil budget is without bound.
type budget struct {
	max int64
	// grace is how long a connection may be in the middle of one frame, or
	// hold a long message, before it may be closed to make room.
	grace time.Duration

	mu   sync.Mutex
	used int64
	held map[*Conn]int64
}

func newBudget(limit int64) *budget {
	return &budget{max: limit, grace: time.Second, held: make(map[*Conn]int64)}
}

// take books n bytes for c. While that is more than there is, connections
// stuck for longer than grace are closed, the oldest first. When it is still too much, take reports false and, unless
// must is set, books nothing.
func (b *budget) take(c *Conn, n int64, must bool) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used+n > b.max {
		victim := b.stuckLongest()
		if victim == nil {
			break
		}
		b.used -= b.held[victim]
		delete(b.held, victim)
		victim.end(peerError(refusedMemory, "stuck in the middle of a frame or message while memory for them ran out"))
	}
	fits := b.used+n <= b.max
	if fits || must {
		b.used += n
		b.held[c] += n
	}
	return fits
}

// started is what ticks counts from.
var started = time.Now()

// ticks gives the time in nanoseconds, never 0, by a clock that nobody can set:
// peers are not stuck, nor free, because the wall clock stepped.
func ticks() int64 { return int64(time.Since(started)) + 1 }

func (b *budget) stuckLongest() *Conn {
	var victim *Conn
	oldest := ticks() - int64(b.grace)
	for c := range b.held {
		if since := c.stuckSince(); since != 0 && since < oldest {
			victim, oldest = c, since
		}
	}
	return victim
}

// give returns n bytes that c had booked.
func (b *budget) give(c *Conn, n int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	held, ok := b.held[c]
	if !ok { // closed to make room
		return
	}
	n = min(n, held)
	b.used -= n
	if held == n {
		delete(b.held, c)
	} else {
		b.held[c] = held - n
	}
}

// giveAll returns what c still holds.
func (b *budget) giveAll(c *Conn) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= b.held[c]
	delete(b.held, c)
}
