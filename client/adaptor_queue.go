package client

import (
	"context"
	"io"
	"slices"
	"sync"
)

// How much is written at a time: what fits one system call.
const (
	batchMessages = 256
	batchBytes    = 64 << 10
)

// sendQueue holds an Adaptor's messages until the network has taken them.
// Any goroutine may push; one takes.
type sendQueue struct {
	max, maxBytes int
	dropOldest    bool

	mu     sync.Mutex // guards all below
	frames [][]byte   // that wait; [head:] of them
	head   int
	bytes  int
	// taken are those being written; they no longer count against max.
	taken   [][]byte
	dropped uint64
	closed  bool
	// waiting counts pushes that wait for room; it is closed and made anew
	// when there is some.
	waiting int
	room    chan struct{}
	more    chan struct{} // holds a token after a push, and after close
	// emptied, unless nil, is closed when nothing is left; see Flush.
	emptied chan struct{}
}

func newSendQueue(most, mostBytes int, dropOldest bool) *sendQueue {
	return &sendQueue{
		max: most, maxBytes: mostBytes, dropOldest: dropOldest,
		room: make(chan struct{}), more: make(chan struct{}, 1),
	}
}

// push adds a frame, which is the queue's from then on.
func (q *sendQueue) push(ctx context.Context, frame []byte) error {
	for {
		room, err := q.tryPush(frame)
		if room == nil {
			return err
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-room:
		}
		q.mu.Lock()
		q.waiting--
		q.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// tryPush adds a frame, or gives what is closed when there may be room.
func (q *sendQueue) tryPush(frame []byte) (room <-chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && !q.fits(len(frame)) {
		if !q.dropOldest {
			q.waiting++
			return q.room, nil
		}
		q.bytes -= len(q.pop())
		q.dropped++
	}
	if q.closed {
		return nil, ErrClosed
	}
	q.frames = append(q.frames, frame)
	q.bytes += len(frame)
	q.wake()
	return nil, nil
}

func (q *sendQueue) fits(size int) bool {
	n := len(q.frames) - q.head
	return n == 0 || n < q.max && q.bytes+size <= q.maxBytes
}

// pop takes the oldest out. There is one.
func (q *sendQueue) pop() []byte {
	f := q.frames[q.head]
	q.frames[q.head] = nil
	if q.head++; q.head == len(q.frames) {
		q.frames, q.head = q.frames[:0], 0
	} else if q.head >= q.max {
		q.frames = slices.Delete(q.frames, 0, q.head)
		q.head = 0
	}
	return f
}

func (q *sendQueue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take gives the next messages to write, at least one: the same again until
// done was called. again tells that it gave them before. The error is io.EOF
// when the queue is closed and empty.
func (q *sendQueue) take(ctx context.Context) (frames [][]byte, again bool, err error) {
	for {
		frames, again, closed := q.tryTake()
		switch {
		case len(frames) > 0:
			return frames, again, nil
		case closed:
			return nil, false, io.EOF
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-q.more:
		}
	}
}

func (q *sendQueue) tryTake() (frames [][]byte, again, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.taken) > 0 {
		return q.taken, true, q.closed
	}
	for bytes := 0; len(q.taken) < batchMessages && bytes < batchBytes && q.head < len(q.frames); {
		f := q.pop()
		bytes += len(f)
		q.taken = append(q.taken, f)
		q.bytes -= len(f)
	}
	if len(q.taken) > 0 && q.waiting > 0 {
		close(q.room)
		q.room = make(chan struct{})
	}
	return q.taken, false, q.closed
}

// done tells that the network has the first n of those taken.
func (q *sendQueue) done(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken = slices.Delete(q.taken, 0, n)
	q.tellEmpty()
}

// close lets nothing more in, and tells whether the queue is empty.
func (q *sendQueue) close() (empty bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.room)
		q.room = make(chan struct{})
	}
	q.wake()
	return q.left() == 0
}

// drained tells that it is closed and empty.
func (q *sendQueue) drained() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && q.left() == 0
}

// len gives how many messages are not sent.
func (q *sendQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left()
}

func (q *sendQueue) left() int { return len(q.frames) - q.head + len(q.taken) }

func (q *sendQueue) droppedSoFar() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
