package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"tbhist/thing"
)

// A rate is that of the last minute, or less while there was less. It is
// counted by spans.
const (
	rateSpan  = 5 * time.Second
	rateSpans = 12
)

// rates counts the updates of each Thing.
type rates struct {
	began time.Time

	mu     sync.Mutex // guards what follows
	things map[thing.Name]*counts
}

// counts is a ring: the span n since the beginning is counted at n modulo its
// size. newest is the last one counted; those that passed since count as 0.
type counts struct {
	newest int
	spans  [rateSpans]uint64
}

func newRates(now time.Time) *rates {
	return &rates{began: now, things: map[thing.Name]*counts{}}
}

func (r *rates) span(now time.Time) int { return int(max(0, now.Sub(r.began)) / rateSpan) }

func (r *rates) count(name thing.Name, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.things[name]
	if c == nil {
		c = &counts{}
		r.things[name] = c
	}
	c.advance(r.span(now))
	c.spans[c.newest%rateSpans]++
}

// advance makes n the newest span.
func (c *counts) advance(n int) {
	if n-c.newest >= rateSpans {
		*c = counts{newest: n}
	}
	for c.newest < n {
		c.newest++
		c.spans[c.newest%rateSpans] = 0
	}
}

// of gives the rate as text, "-" for none.
func (r *rates) of(name thing.Name, now time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.things[name]
	if c == nil {
		return "-"
	}
	n := r.span(now)
	c.advance(n)
	total := uint64(0)
	for _, one := range c.spans {
		total += one
	}
	covered := now.Sub(r.began.Add(time.Duration(max(0, n-rateSpans+1)) * rateSpan))
	return rateText(total, max(covered, time.Second))
}

// rateText writes n updates in a time: in a second, or if that is seldom, in
// a minute.
func rateText(n uint64, d time.Duration) string {
	rate := float64(n) / d.Seconds()
	switch {
	case n == 0:
		return "-"
	case rate >= 9.95:
		return grouped(uint64(rate+0.5)) + "/s"
	case rate >= 0.95:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", rate), ".0") + "/s"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", rate*60), ".0") + "/min"
}
