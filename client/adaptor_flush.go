package client

import "context"

// Flush waits until nothing is left to send: the network has taken, or
// DropOldest dropped, every message, those of other goroutines included. It
// tells no more than that; see "What can be lost". The error is that of ctx,
// or ErrClosed when Close has given up messages.
func (a *Adaptor) Flush(ctx context.Context) error {
	for {
		emptied := a.queue.untilEmpty()
		if emptied == nil {
			return nil
		}
		select {
		case <-emptied:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-a.done:
			if a.queue.len() > 0 {
				return ErrClosed
			}
		}
	}
}

// untilEmpty gives what is closed when nothing is left; nil when that is so.
func (q *sendQueue) untilEmpty() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left() == 0 {
		return nil
	}
	if q.emptied == nil {
		q.emptied = make(chan struct{})
	}
	return q.emptied
}

// tellEmpty wakes those that wait for an empty queue, if it is. mu is held.
func (q *sendQueue) tellEmpty() {
	if q.emptied != nil && q.left() == 0 {
		close(q.emptied)
		q.emptied = nil
	}
}
