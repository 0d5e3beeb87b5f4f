// Package backoff spaces attempts: the pauses between them grow, and are not
// the same for all who make them.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff gives pauses from Lowest up to Highest: each is twice the one
// before, less up to half of it by chance, so that many who lost the same
// peer do not come all at once. It is for one goroutine.
type Backoff struct {
	Lowest, Highest time.Duration

	tries int // since the last reset
}

// Reset makes the next pause the lowest again.
func (b *Backoff) Reset() { b.tries = 0 }

// Next gives the next pause.
func (b *Backoff) Next() time.Duration {
	pause := b.Lowest
	for range b.tries {
		if pause *= 2; pause >= b.Highest {
			pause = b.Highest
			break
		}
	}
	b.tries++
	return pause/2 + rand.N(pause/2+1)
}

// Pause waits for the next pause, unless ctx ends before: then it gives
// ctx.Err().
func (b *Backoff) Pause(ctx context.Context) error { return Wait(ctx, b.Next()) }

// Wait waits so long, unless ctx ends before: then it gives ctx.Err().
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
