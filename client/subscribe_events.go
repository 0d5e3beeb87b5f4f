package client

import (
	"context"
	"iter"
	"sync"
)

// Events is Subscribe for a loop: it yields the Thing's updates until ctx
// ends, with its error, or Run has, or the loop is left. They are queued from
// the call of Events on, not only from when the loop begins. A loop that is
// slower than the updates holds nobody back: beyond 8 MiB the oldest are let
// go, and counted in the Dropped of the next. It may be ranged over once.
func (t Thing) Events(ctx context.Context, options ...SubscribeOption) iter.Seq2[ThingEvent, error] {
	return t.events(ctx, maxHeld, options)
}

func (t Thing) events(ctx context.Context, maxBytes int, options []SubscribeOption) iter.Seq2[ThingEvent, error] {
	q := &eventQueue{d: t.d, max: maxBytes, filled: make(chan struct{}, 1)}
	s, err := t.Subscribe(q.push, options...)
	stop := func() bool { return true }
	if err == nil {
		stop = context.AfterFunc(ctx, s.Close)
	}
	return func(yield func(ThingEvent, error) bool) {
		if err != nil {
			yield(ThingEvent{}, err)
			return
		}
		defer func() {
			stop()
			s.Close()
		}()
		for {
			e, err := q.pop(ctx)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// eventQueue is where events wait for a loop.
type eventQueue struct {
	d      *Directory
	max    int           // bytes
	filled chan struct{} // holds a token when there is something new

	mu      sync.Mutex // guards what follows
	items   []ThingEvent
	bytes   int    // of items
	dropped uint64 // before the first of items
}

func (e *ThingEvent) size() int { return e.Update.Size() + heldOverhead }

func (q *eventQueue) push(e ThingEvent) {
	q.mu.Lock()
	q.items = append(q.items, e)
	q.bytes += e.size()
	for q.bytes > q.max && len(q.items) > 1 {
		q.first()
		q.dropped++
	}
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// first takes the first item out; q.mu is held.
func (q *eventQueue) first() ThingEvent {
	e := q.items[0]
	q.items[0] = ThingEvent{}
	q.items = q.items[1:]
	q.bytes -= e.size()
	return e
}

// pop waits for the next event. What came before Run ended is handed out
// before its error.
func (q *eventQueue) pop(ctx context.Context) (ThingEvent, error) {
	for {
		if ctx.Err() != nil {
			return ThingEvent{}, ctx.Err()
		}
		q.d.mu.RLock()
		ended, changed := q.d.ended, q.d.changed
		q.d.mu.RUnlock()
		if e, ok := q.take(); ok {
			return e, nil
		}
		if ended != nil {
			return ThingEvent{}, ended
		}
		select {
		case <-q.filled:
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (q *eventQueue) take() (ThingEvent, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return ThingEvent{}, false
	}
	e := q.first()
	e.Dropped, q.dropped = q.dropped, 0
	return e, true
}
