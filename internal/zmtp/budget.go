package zmtp

import (
	"sync"
	"time"
)

// budget bounds one kind of memory that the connections of a listener hold
// for frames that have not come in whole. A nil budget is without bound.
type budget struct {
	max int64
	// grace is how long a connection may be in the middle of one frame
	// before it may be closed to make room.
	grace time.Duration

	mu   sync.Mutex
	used int64
	held map[*Conn]int64
}

func newBudget(limit int64) *budget {
	return &budget{max: limit, grace: time.Second, held: make(map[*Conn]int64)}
}

// take books n bytes for c. While that is more than there is, connections
// stuck in the middle of a frame for longer than grace are closed, the
// oldest first. When it is still too much, take reports false and, unless
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
		victim.end(peerError(refusedMemory, "stuck in the middle of a frame while memory for frames ran out"))
	}
	fits := b.used+n <= b.max
	if fits || must {
		b.used += n
		b.held[c] += n
	}
	return fits
}

func (b *budget) stuckLongest() *Conn {
	var victim *Conn
	oldest := time.Now().Add(-b.grace).UnixNano()
	for c := range b.held {
		if since := c.midFrame.Load(); since != 0 && since < oldest {
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
