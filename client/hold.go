package client

import (
	"context"
	"sync"

	"tbhist/internal/wire"
)

// maxHeld bounds the bytes of live updates that wait for a follower. Beyond
// it they are let go: history has them.
const maxHeld = 32 << 20

// heldOverhead is what an update costs beside its bytes, roughly.
const heldOverhead = 256

// held is one thing that came on the feed.
type held struct {
	update    Update
	heartbeat *wire.Heartbeat
	// dropped stands for everything that was let go at this point.
	dropped bool
}

// hold is where the live feed waits for a follower that is busy with
// history, or slow. One goroutine fills it and one takes.
type hold struct {
	filled chan struct{} // holds a token when there is something new

	mu    sync.Mutex // guards what follows
	items []held
	next  int // the first of items not taken
	bytes int
	err   error // why no more comes
}

func newHold() *hold { return &hold{filled: make(chan struct{}, 1)} }

// fill reads the feed until it ends.
func (h *hold) fill(ctx context.Context, f *feed) {
	for {
		m, err := f.next(ctx)
		switch {
		case err != nil:
			h.end(err)
			return
		case m.Kind == wire.KindUpdate:
			h.put(held{update: m.Update}, m.Update.Size()+heldOverhead)
		case m.Kind == wire.KindHeartbeat:
			h.put(held{heartbeat: &m.Heartbeat}, heldOverhead)
		}
	}
}

func (h *hold) put(item held, bytes int) {
	h.mu.Lock()
	if h.bytes+bytes > maxHeld {
		h.items, h.next, h.bytes = append(h.items[:0:0], held{dropped: true}), 0, 0
	}
	h.items = append(h.items, item)
	h.bytes += bytes
	h.mu.Unlock()
	h.wake()
}

func (h *hold) end(err error) {
	h.mu.Lock()
	h.err = err
	h.mu.Unlock()
	h.wake()
}

func (h *hold) wake() {
	select {
	case h.filled <- struct{}{}:
	default:
	}
}

// take waits for the next item. What came before the feed ended is handed
// out before its error.
func (h *hold) take(ctx context.Context) (held, error) {
	for {
		h.mu.Lock()
		if h.next < len(h.items) {
			item := h.items[h.next]
			h.items[h.next] = held{}
			if h.next++; h.next == len(h.items) {
				h.items, h.next, h.bytes = h.items[:0], 0, 0
			}
			h.mu.Unlock()
			return item, nil
		}
		err := h.err
		h.mu.Unlock()
		if err != nil {
			return held{}, err
		}
		select {
		case <-h.filled:
		case <-ctx.Done():
			return held{}, ctx.Err()
		}
	}
}

// peek gives the next item, if it is there.
func (h *hold) peek() (held, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next == len(h.items) {
		return held{}, false
	}
	return h.items[h.next], true
}
