package client

import (
	"context"
	"errors"
	"time"

	"tbhist/internal/backoff"
)

// The pauses between two attempts to reach a broker.
const (
	retryLowest  = 100 * time.Millisecond
	retryHighest = 5 * time.Second
)

// newBackoff spaces attempts to reach a broker.
func newBackoff() backoff.Backoff {
	return backoff.Backoff{Lowest: retryLowest, Highest: retryHighest}
}

// endless runs one session after the other, with pauses in between, until
// ctx ends, a loop was left (errStop), or failed, told how a session ended,
// gives an error.
func endless(ctx context.Context, retry *backoff.Backoff, session func(context.Context) error, failed func(error) error) error {
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
		if err := retry.Pause(ctx); err != nil {
			return err
		}
	}
}
