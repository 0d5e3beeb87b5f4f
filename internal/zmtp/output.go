package zmtp

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// output is the writing side. Its lock is held across system calls: data
// and commands go out whole, one after the other.
type output struct {
	mu   sync.Mutex // before control.mu
	err  error      // why writing ended
	lent []byte     // a buffer, while there is something in it
	n    int        // bytes in it
	// budget is where lent comes from.
	budget *outBudget
	// control is the buffer that control.take is given in exchange.
	control []byte
}

// Write queues framed bytes, one or more whole frames as AppendFrame makes
// them; no command comes between the pieces of one call. They may stay in a
// buffer until Flush. Large pieces are not copied. The error is
// ErrWriteDeadline when the peer took nothing for too long.
func (c *Conn) Write(framed ...[]byte) error {
	c.out.mu.Lock()
	for _, p := range framed {
		c.put(p)
	}
	return c.unlock()
}

// Flush sends what Write left in the buffer.
func (c *Conn) Flush() error {
	c.out.mu.Lock()
	c.flush()
	return c.unlock()
}

// Subscribe tells the peer of a Sub connection, on whichever side it was
// bound, to send messages that begin with prefix.
func (c *Conn) Subscribe(prefix []byte) error { return c.subscription(1, prefix) }

// Cancel ends one Subscribe with the same prefix.
func (c *Conn) Cancel(prefix []byte) error { return c.subscription(0, prefix) }

func (c *Conn) subscription(on byte, prefix []byte) error {
	framed := AppendFrameHeader(nil, 1+len(prefix), false)
	framed = append(append(framed, on), prefix...)
	if err := c.Write(framed); err != nil {
		return err
	}
	return c.Flush()
}

// sendControl sends the commands that wait, unless somebody is writing:
// then they do it.
func (c *Conn) sendControl() {
	if c.control.waiting.Load() && c.out.mu.TryLock() {
		_ = c.unlock() // a failure is told to the next writer, and ends the connection
	}
}

// unlock lets go of the write lock, after sending the commands that came to
// wait meanwhile.
func (c *Conn) unlock() error {
	for {
		if c.control.waiting.Load() {
			o := &c.out
			o.control = c.control.take(o.control)
			c.flush()
			if o.err == nil {
				c.send(o.control)
			}
		}
		err := c.out.err
		c.out.mu.Unlock()
		// A command that was queued before the lock was free, by somebody
		// who then failed to take it.
		if !c.control.waiting.Load() || err != nil || !c.out.mu.TryLock() {
			return err
		}
	}
}

// put queues p. The lock is held.
func (c *Conn) put(p []byte) {
	o := &c.out
	if len(p) >= largeBuffer {
		// What is small before it goes ahead of it: the head of an answer, to
		// a peer that may already ask for the next.
		c.flush()
		if o.err == nil {
			c.send(p)
		}
		return
	}
	for len(p) > 0 && o.err == nil {
		if o.lent == nil {
			if o.lent = o.budget.lend(); o.lent == nil {
				c.send(p)
				return
			}
		}
		n := copy(o.lent[o.n:], p)
		o.n += n
		p = p[n:]
		if o.n == len(o.lent) {
			c.flush()
		}
	}
}

// flush sends the buffer and gives it back. The lock is held.
func (c *Conn) flush() {
	o := &c.out
	if o.lent == nil {
		return
	}
	if o.err == nil {
		c.send(o.lent[:o.n])
	}
	c.drop()
}

// drop gives the buffer back. The lock is held.
func (c *Conn) drop() {
	o := &c.out
	if o.lent != nil {
		o.budget.takeBack(o.lent)
		o.lent, o.n = nil, 0
	}
}

// send writes p to the network. It gives up when nothing was taken for
// Limits.WriteDeadline: neither by the kernel nor, where the kernel tells,
// by the peer.
func (c *Conn) send(p []byte) {
	limit := c.limits.WriteDeadline
	step := max(limit/8, time.Millisecond)
	queued := -1
	var last time.Time // of progress
	for {
		now := time.Now()
		if last.IsZero() {
			last = now
		}
		if err := c.nc.SetWriteDeadline(now.Add(step)); err != nil {
			c.out.err = c.because(err)
			return
		}
		n, err := c.nc.Write(p)
		p = p[n:]
		if err == nil {
			return
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			c.end(err)
			c.out.err = c.because(err)
			return
		}
		q := unacked(c.nc)
		if n > 0 || q != queued && queued >= 0 {
			last = time.Now()
		}
		queued = q
		if time.Since(last) >= limit {
			c.end(ErrWriteDeadline)
			c.out.err = c.because(net.ErrClosed)
			return
		}
	}
}
