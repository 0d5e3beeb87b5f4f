package client

import (
	"math/rand/v2"
	"time"
)

// The pauses before a question to history that was not to be expected.
const (
	askSoon = 250 * time.Millisecond
	askLate = 2 * time.Second
	askCalm = 10 * time.Second
)

// pacer spaces the questions that a follower asks to repair what it has: by
// chance, because what is the matter with one follower is often the matter
// with a hundred, and the further apart the more there are.
type pacer struct {
	span time.Duration
	last time.Time
}

func newPacer() pacer { return pacer{span: askSoon} }

// next gives the pause before a question that is due now.
func (p *pacer) next(now time.Time) time.Duration {
	if !p.last.IsZero() && now.Sub(p.last) < askCalm {
		p.span = min(2*p.span, askLate)
	} else {
		p.span = askSoon
	}
	p.last = now
	return rand.N(p.span)
}
