package client

import (
	"bytes"
	"context"
	"sync"

	"tbhist/internal/wire"
)

// maxHeld bounds the bytes of live updates that wait for a follower. Beyond
// it they are let go: history has them.
const maxHeld = 8 << 20

// heldOverhead is what an update costs beside its bytes, roughly.
const heldOverhead = 256

// held is one thing that came on the feed.
type held struct {
	update    Update
	heartbeat *wire.Heartbeat
	// dropped tells that all that follows is let go until resume.
	dropped bool
}

// dropped is what is known of that which a hold let go.
type dropped struct {
	unkept uint64 // updates that the disk had refused: history lacks them
	epoch  string // of the last heartbeat; "" for none
	skipReport
}

// skipReport is what heartbeats say was skipped.
type skipReport struct{ from, to, updates uint64 }

func (r *skipReport) add(h *wire.Heartbeat) {
	if h.Skipped == 0 {
		return
	}
	if r.updates == 0 {
		r.from = h.SkippedFrom
	}
	r.from, r.to = min(r.from, h.SkippedFrom), max(r.to, h.SkippedTo)
	r.updates += h.Skipped
}

// hold is where the live feed waits for a follower that is busy with
// history, or slow. One goroutine fills it and one takes. When the half of it
// that is being filled is full, that is let go, and so is all that comes
// until the follower is ready to ask history instead.
type hold struct {
	max    int           // bytes, of both halves
	filled chan struct{} // holds a token when there is something new

	mu       sync.Mutex // guards what follows
	filling  []held
	bytes    int // of filling
	dropping bool
	told     bool // take has handed out that it is dropping
	gone     dropped
	err      error // why no more comes

	// The follower's own.
	taking []held
	next   int // the first of taking that was not taken
}

func newHold(maxBytes int) *hold {
	return &hold{max: maxBytes, filled: make(chan struct{}, 1)}
}

// fill reads the feed until it ends.
func (h *hold) fill(ctx context.Context, f *feed) {
	for {
		frame, err := f.frame(ctx)
		if err != nil {
			h.end(err)
			return
		}
		if h.passes(frame) {
			continue
		}
		m, err := f.parse(frame)
		if err != nil {
			h.end(err)
			return
		}
		switch m.Kind {
		case wire.KindUpdate:
			h.put(held{update: m.Update}, m.Update.Size()+heldOverhead)
		case wire.KindHeartbeat:
			h.put(held{heartbeat: &m.Heartbeat}, heldOverhead)
		}
	}
}

// passes tells that a message is an update that is let go and that history
// has: while nobody takes, it need not even be read.
func (h *hold) passes(frame []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	const ending = 160 // the numbers stand behind the data
	return h.dropping && bytes.HasPrefix(frame, []byte(wire.UpdatePrefix)) &&
		!bytes.Contains(frame[max(0, len(frame)-ending):], []byte(`seq": null`))
}

func (h *hold) put(item held, size int) {
	h.mu.Lock()
	if !h.dropping && len(h.filling) > 0 && h.bytes+size > h.max/2 {
		h.dropping, h.told, h.gone = true, false, dropped{}
		for i := range h.filling {
			h.gone.add(&h.filling[i])
		}
		h.filling, h.bytes = nil, 0
	}
	if h.dropping {
		h.gone.add(&item)
	} else {
		h.filling = append(h.filling, item)
		h.bytes += size
	}
	h.mu.Unlock()
	h.wake()
}

func (d *dropped) add(item *held) {
	switch {
	case item.heartbeat != nil:
		d.epoch = item.heartbeat.Epoch
		d.skipReport.add(item.heartbeat)
	case !item.update.Kept():
		d.unkept++
	}
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
		if h.more() {
			item := h.taking[h.next]
			h.taking[h.next] = held{}
			h.next++
			return item, nil
		}
		h.mu.Lock()
		err, drop := h.err, h.dropping && !h.told
		h.told = h.told || drop
		h.mu.Unlock()
		switch {
		case drop:
			return held{dropped: true}, nil
		case err != nil:
			return held{}, err
		}
		select {
		case <-h.filled:
		case <-ctx.Done():
			return held{}, ctx.Err()
		}
	}
}

// more makes sure that the half being taken has an item, if there is one.
func (h *hold) more() bool {
	if h.next < len(h.taking) {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taking, h.filling, h.next, h.bytes = h.filling, h.taking[:0], 0, 0
	return len(h.taking) > 0
}

// peek gives the next item, if it is there.
func (h *hold) peek() (held, bool) {
	if !h.more() {
		return held{}, false
	}
	return h.taking[h.next], true
}

// resume ends letting go, and tells what was let go. What comes from now on
// is held again.
func (h *hold) resume() dropped {
	h.mu.Lock()
	defer h.mu.Unlock()
	gone := h.gone
	h.dropping, h.gone = false, dropped{}
	return gone
}

// ended tells why the feed has ended, nil while it has not.
func (h *hold) ended() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
