package cli

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"tbhist/client"
	"tbhist/internal/backoff"
	"tbhist/thing"
)

// parseSpeed reads --speed; 0 is no pauses.
func parseSpeed(s string) (float64, error) {
	if s == "" || strings.EqualFold(s, "max") {
		return 0, nil
	}
	speed, err := strconv.ParseFloat(s, 64)
	if err != nil || !decimal(s) || speed <= 0 || math.IsInf(speed, 0) {
		return 0, usagef("--speed: %q is neither max nor a number above 0: 1 is the original pace, 10 ten times as fast", s)
	}
	return speed, nil
}

const (
	// jitter is how far times may go back and forth without that being a
	// clock that was set: sources differ by as much.
	jitter = thing.Micros(time.Minute / time.Microsecond)
	// behind is how late an update may be for its lateness to be made up for.
	behind = time.Second
	// shortestPause: shorter ones add up.
	shortestPause = time.Millisecond
)

// pace makes the pauses of a replay: as long as the differences of the
// updates' times, divided by speed. A time before the one before it, because
// a clock was set or sources differ, makes no pause.
type pace struct {
	speed float64
	byTS  bool
	idle  func(pause time.Duration) error // is called before a pause

	begun bool
	at    thing.Micros // the latest time so far
	due   time.Time    // when that was, or is, to be replayed
}

// wait waits until u is to be replayed, unless ctx ends before.
func (p *pace) wait(ctx context.Context, u *client.Update) error {
	at := u.Received
	if p.byTS {
		at = thing.MicrosOfSeconds(u.TS)
	}
	now := time.Now()
	step := at - p.at
	switch {
	case !p.begun:
		p.begun, p.at, p.due = true, at, now
	case step > 0:
		p.at = at
		if now.Sub(p.due) > behind {
			p.due = now // it cannot be made up for
		}
		p.due = p.due.Add(pauseOf(step, p.speed))
	case step < -jitter:
		p.at = at
	}
	pause := p.due.Sub(now)
	if pause < shortestPause {
		return ctx.Err()
	}
	if err := p.idle(pause); err != nil {
		return err
	}
	return backoff.Wait(ctx, pause)
}

// longestPause keeps times in what a time.Duration holds.
const longestPause = 100 * 365 * 24 * time.Hour

func pauseOf(step thing.Micros, speed float64) time.Duration {
	pause := float64(step) * float64(time.Microsecond) / speed
	if pause >= float64(longestPause) {
		return longestPause
	}
	return time.Duration(pause)
}
