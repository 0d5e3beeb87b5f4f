package ingest

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

const (
	// rateBurst is how much an address may send at once: what the rate gives
	// in this time.
	rateBurst = time.Second
	// maxRateAddrs bounds the addresses that are told apart at once, those
	// that have sent nothing for rateBurst not counted; more share one rate.
	maxRateAddrs = 4096
	// minHold is for how long a connection is held back at least, so that a
	// high rate does not mean as many timers.
	minHold = 10 * time.Millisecond
	// sweepEvery is how often a full table is looked through at most.
	sweepEvery = 250 * time.Millisecond
)

// rates holds each address to so many messages a second, on all its
// connections and by datagrams together. A nil one holds back nobody.
type rates struct {
	interval time.Duration // between two messages
	started  time.Time     // of the monotonic clock: the time of day may step

	mu sync.Mutex // guards the rest; nobody waits under it
	// until is, for each address, the time since started to which what it
	// has sent has used up its rate; what is past is forgotten.
	until  map[netip.Addr]time.Duration
	others time.Duration // the same of all for which there is no room
	swept  time.Duration
}

// newRates makes one for so many messages a second; nil for 0.
func newRates(perSecond int) *rates {
	if perSecond <= 0 {
		return nil
	}
	return &rates{
		interval: max(time.Second/time.Duration(perSecond), 1),
		started:  time.Now(),
		until:    make(map[netip.Addr]time.Duration),
	}
}

// allow counts a message, if it is within its address's rate.
func (r *rates) allow(addr netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.started)
	used := max(r.used(addr), now) + r.interval
	if used-now > rateBurst && used-now > r.interval {
		return false
	}
	r.set(addr, used, now)
	return true
}

// took counts a message that was read, and tells for how long its address is
// not to be read from now; 0 where the next is due.
func (r *rates) took(addr netip.Addr) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.started)
	used := max(r.used(addr), now) + r.interval
	r.set(addr, used, now)
	return r.due(used, now)
}

// owed tells for how long an address is not to be read because of what it has
// sent, and counts nothing.
func (r *rates) owed(addr netip.Addr) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.due(r.used(addr), time.Since(r.started))
}

// due gives the time to the next message of an address that has used up its
// rate to used.
func (r *rates) due(used, now time.Duration) time.Duration {
	return max(0, used+r.interval-max(rateBurst, r.interval)-now)
}

// used gives to what time an address has used up its rate. The lock is held.
func (r *rates) used(addr netip.Addr) time.Duration {
	if used, ok := r.until[addr]; ok || len(r.until) < maxRateAddrs {
		return used
	}
	return r.others
}

// set notes it. The lock is held.
func (r *rates) set(addr netip.Addr, used, now time.Duration) {
	if _, ok := r.until[addr]; !ok && len(r.until) >= maxRateAddrs {
		r.others = used
		if now-r.swept >= sweepEvery {
			r.swept = now
			for a, u := range r.until {
				if u <= now {
					delete(r.until, a)
				}
			}
		}
		return
	}
	r.until[addr] = used
}

// holdBack lets a connection wait that is over its rate. It is false when ctx
// ended.
func (in *Ingest) holdBack(ctx context.Context, wait time.Duration) bool {
	in.metrics.HeldBack.Inc()
	timer := time.NewTimer(max(wait, minHold))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
