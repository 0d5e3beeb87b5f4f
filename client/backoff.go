package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// The pauses between two attempts to reach a broker.
const (
	retryLowest  = 100 * time.Millisecond
	retryHighest = 5 * time.Second
)

// backoff spaces attempts: each pause is twice the one before, less up to
// half of it by chance, so that many clients do not come all at once.
type backoff struct {
	lowest, highest time.Duration
	tries           int // since the last reset
}

func (b *backoff) reset() { b.tries = 0 }

// next gives the next pause.
func (b *backoff) next() time.Duration {
	pause := b.lowest
	for range b.tries {
		if pause *= 2; pause >= b.highest {
			pause = b.highest
			break
		}
	}
	b.tries++
	return pause/2 + rand.N(pause/2+1)
}

// pause waits for the next pause, unless ctx ends before.
func (b *backoff) pause(ctx context.Context) error { return wait(ctx, b.next()) }

// wait waits so long, unless ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endless runs one session after the other, with pauses in between, until
// ctx ends, a loop was left (errStop), or failed, told how a session ended,
// gives an error.
func endless(ctx context.Context, retry *backoff, session func(context.Context) error, failed func(error) error) error {
	for {
		err := session(ctx)
		switch {
		case errors.Is(err, errStop):
			return errStop
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if err := failed(err); err != nil {
			return err
		}
		if err := retry.pause(ctx); err != nil {
			return err
		}
	}
}
