package publish

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// pagesAtOnce bounds the pages that are read for the history service at
	// the same time.
	pagesAtOnce = 8
	// answerBytes bounds the answers that are in memory, being made or
	// being sent; addressBytes what of it one address may take, loopback
	// excepted.
	answerBytes  = 12 << 20
	addressBytes = 6 << 20
	// patience is how long a request waits for room. Halfway, those who
	// have been taking their answer for as long are cut off.
	patience = 4 * time.Second
)

var errBusy = errors.New("too many requests are being answered: ask again in a while")

// answers bounds what the history service holds in memory and does at once,
// so that clients that ask much or take their answers slowly do not hurt
// others. Make it with init.
type answers struct {
	slots    chan struct{}
	room     *semaphore.Weighted
	patience time.Duration

	mu       sync.Mutex
	booked   int // by all that are in flight or wait for room
	byAddr   map[netip.Addr]int
	inFlight map[*answer]struct{}
	logged   time.Time // when a failure was logged last
}

// answer is room taken for one answer.
type answer struct {
	addr  netip.Addr
	bytes int
	since time.Time // when it began to be sent; zero before
	close func() error
}

func (a *answers) init() {
	a.slots = make(chan struct{}, pagesAtOnce)
	a.room = semaphore.NewWeighted(answerBytes)
	a.patience = patience
	a.byAddr = map[netip.Addr]int{}
	a.inFlight = map[*answer]struct{}{}
}

// take waits for room for an answer of so many bytes. The error is errBusy
// or the context's. close cuts the connection off.
func (a *answers) take(ctx context.Context, addr netip.Addr, bytes int, close func() error) (*answer, error) {
	a.mu.Lock()
	if !a.addressHas(addr, bytes) {
		a.mu.Unlock()
		return nil, errBusy
	}
	an := a.book(addr, bytes, close)
	a.mu.Unlock()

	err := a.wait(ctx, a.patience/2, func(ctx context.Context) error { return a.room.Acquire(ctx, int64(bytes)) })
	if errors.Is(err, errBusy) {
		a.cutOff()
		err = a.wait(ctx, a.patience/2, func(ctx context.Context) error { return a.room.Acquire(ctx, int64(bytes)) })
	}
	if err != nil {
		a.forget(an)
		return nil, err
	}
	return an, nil
}

// takeAhead gives room for the next answer of a connection while the last is
// still being sent, nil where that would take from others.
func (a *answers) takeAhead(addr netip.Addr, bytes int, close func() error) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.booked+bytes > answerBytes/2 || !a.addressHas(addr, bytes) || !a.room.TryAcquire(int64(bytes)) {
		return nil
	}
	return a.book(addr, bytes, close)
}

// more takes room for an answer that has become larger than what was booked
// for it. It does not wait.
func (a *answers) more(an *answer, bytes int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.addressHas(an.addr, bytes) || !a.room.TryAcquire(int64(bytes)) {
		return false
	}
	an.bytes += bytes
	a.booked += bytes
	a.byAddr[an.addr] += bytes
	return true
}

// shrink gives back what an answer took beyond so many bytes, now that it is
// made.
func (a *answers) shrink(an *answer, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	less := an.bytes - bytes
	if less <= 0 {
		return
	}
	an.bytes = bytes
	a.booked -= less
	a.byAddr[an.addr] -= less
	a.room.Release(int64(less))
}

// addressHas tells whether an address may take so many bytes more. The lock
// is held.
func (a *answers) addressHas(addr netip.Addr, bytes int) bool {
	return a.byAddr[addr]+bytes <= addressBytes || addr.IsLoopback()
}

// book notes an answer. The lock is held.
func (a *answers) book(addr netip.Addr, bytes int, close func() error) *answer {
	an := &answer{addr: addr, bytes: bytes, close: close}
	a.booked += bytes
	a.byAddr[addr] += bytes
	a.inFlight[an] = struct{}{}
	return an
}

// read waits for a turn to read, and gives what ends it.
func (a *answers) read(ctx context.Context) (done func(), err error) {
	err = a.wait(ctx, a.patience, func(ctx context.Context) error {
		select {
		case a.slots <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		return nil, err
	}
	return func() { <-a.slots }, nil
}

// wait gives errBusy where f needs longer than d.
func (*answers) wait(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := f(short); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errBusy
	}
	return nil
}

// sending notes that the answer is on its way: how long that takes is the
// peer's doing.
func (a *answers) sending(an *answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	an.since = time.Now()
}

// give gives the room of an answer back.
func (a *answers) give(an *answer) {
	a.room.Release(int64(an.bytes))
	a.forget(an)
}

// mayLog tells, once a second at most, that a failure is to be logged:
// those who ask decide how many there are.
func (a *answers) mayLog() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if now.Sub(a.logged) < time.Second {
		return false
	}
	a.logged = now
	return true
}

func (a *answers) forget(an *answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.booked -= an.bytes
	if a.byAddr[an.addr] -= an.bytes; a.byAddr[an.addr] == 0 {
		delete(a.byAddr, an.addr)
	}
	delete(a.inFlight, an)
}

// cutOff closes the connections that have been taking one answer for as
// long as another request has waited in vain.
func (a *answers) cutOff() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for an := range a.inFlight {
		if !an.since.IsZero() && time.Since(an.since) >= a.patience/2 {
			_ = an.close()
		}
	}
}
