package access

import (
	"sync"
	"time"
)

// Throttle lets the first of equal events through in each span of time and
// counts the rest: for log lines that a peer can cause at will. Its memory is
// bounded; it is safe for use by many goroutines.
type Throttle[K comparable] struct {
	every time.Duration
	max   int

	mu     sync.Mutex // guards all below
	keys   map[K]*span
	others span // shared by the keys for which there is no room
	swept  time.Time
}

// span is one key's: the line that opened it, and what came since.
type span struct {
	opened     time.Time
	suppressed uint64
}

// NewThrottle makes one that tells max keys apart; further keys share one.
func NewThrottle[K comparable](every time.Duration, max int) *Throttle[K] {
	return &Throttle[K]{every: every, max: max, keys: make(map[K]*span)}
}

// Pass tells whether this event of key is to be let through, and if so, how
// many of its kind were not since the last one that was.
func (t *Throttle[K]) Pass(key K, now time.Time) (suppressed uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.keys[key]
	if s == nil {
		if len(t.keys) >= t.max {
			t.sweep(now)
		}
		if len(t.keys) < t.max {
			s = &span{}
			t.keys[key] = s
		} else {
			s = &t.others
		}
	}
	// A clock that was set back opens a new span, rather than be silent.
	if d := now.Sub(s.opened); !s.opened.IsZero() && d >= 0 && d < t.every {
		s.suppressed++
		return 0, false
	}
	suppressed = s.suppressed
	s.opened, s.suppressed = now, 0
	return suppressed, true
}

// sweep drops the keys that were quiet for a whole span. It looks at most
// every quarter of a span: with a full table it would else cost each event
// a walk.
func (t *Throttle[K]) sweep(now time.Time) {
	if d := now.Sub(t.swept); !t.swept.IsZero() && d >= 0 && d < t.every/4 {
		return
	}
	t.swept = now
	for key, s := range t.keys {
		if d := now.Sub(s.opened); d < 0 || d >= t.every {
			delete(t.keys, key)
		}
	}
}
