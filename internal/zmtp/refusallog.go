package zmtp

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	refusalLogEvery = time.Minute
	refusalLogMax   = 4096 // addresses and reasons remembered
)

// refusalLog logs refused connections, once per address and reason a minute
// with the number of those not logged since, in bounded memory.
type refusalLog struct {
	logger *slog.Logger
	name   string
	now    func() time.Time

	mu         sync.Mutex
	seen       map[refusalKey]*refusalSeen
	acceptFail time.Time // when a failure to accept was logged
}

type refusalKey struct {
	addr   netip.Addr
	reason string
}

type refusalSeen struct {
	at         time.Time
	suppressed int
}

func newRefusalLog(logger *slog.Logger, name string, now func() time.Time) *refusalLog {
	return &refusalLog{logger: logger, name: name, now: now, seen: make(map[refusalKey]*refusalSeen)}
}

func (l *refusalLog) refused(addr netip.Addr, fault *PeerError) {
	if suppressed, ok := l.due(refusalKey{addr, fault.Reason}); ok {
		l.logger.Warn("connection refused", "listener", l.name, "source", addr.String(),
			"reason", fault.Reason, "err", fault.Err.Error(), "suppressed", suppressed)
	}
}

// due tells whether a line may be logged, and how many were not.
func (l *refusalLog) due(key refusalKey) (suppressed int, ok bool) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen[key]
	if s != nil && now.Sub(s.at) < refusalLogEvery {
		s.suppressed++
		return 0, false
	}
	if s == nil {
		if len(l.seen) >= refusalLogMax {
			l.forget(now)
		}
		s = &refusalSeen{}
		l.seen[key] = s
	}
	suppressed = s.suppressed
	*s = refusalSeen{at: now}
	return suppressed, true
}

// forget makes room: of what is over a minute old, and of everything when
// that does not help.
func (l *refusalLog) forget(now time.Time) {
	for k, s := range l.seen {
		if now.Sub(s.at) >= refusalLogEvery {
			delete(l.seen, k)
		}
	}
	if len(l.seen) >= refusalLogMax {
		clear(l.seen)
	}
}

func (l *refusalLog) acceptFailed(err error) {
	now := l.now()
	l.mu.Lock()
	due := now.Sub(l.acceptFail) >= refusalLogEvery
	if due {
		l.acceptFail = now
	}
	l.mu.Unlock()
	if due {
		l.logger.Error("cannot accept connections, trying on", "listener", l.name, "err", err)
	}
}
