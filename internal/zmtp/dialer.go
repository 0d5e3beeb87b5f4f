package zmtp

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tbhist/internal/backoff"
)

// The pauses between attempts where a Dialer says nothing else.
const (
	defaultMinBackoff = 100 * time.Millisecond
	defaultMaxBackoff = 5 * time.Second
)

// Dialer keeps a connection up.
type Dialer struct {
	DialOptions
	// MinBackoff and MaxBackoff bound the pause between two attempts, which
	// doubles with each that fails, less up to half of it by chance. Zero
	// means 100 ms and 5 s.
	MinBackoff, MaxBackoff time.Duration
}

// PermanentError ends Dialer.Run.
type PermanentError struct{ Err error }

// Error says what Err says.
func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *PermanentError) Unwrap() error { return e.Err }

// Permanent marks err as one after which trying again makes no sense.
func Permanent(err error) error { return &PermanentError{Err: err} }

// Run dials the address that addr gives, has use work with the connection,
// and when use returns, or dialling fails, does it again after a pause,
// until ctx ends or addr or use returns a *PermanentError. It returns
// ctx.Err() or what the PermanentError wraps. The connection is closed when
// use returns, or when ctx ends. attempt counts from 0 and begins anew after
// a connection that lasted longer than MaxBackoff.
func (d *Dialer) Run(ctx context.Context, addr func(attempt int) (string, error), use func(ctx context.Context, c *Conn) error) error {
	logger := d.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	retry := d.backoff()
	for attempt := 0; ; attempt++ {
		lasted, err := d.once(ctx, attempt, addr, use)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var permanent *PermanentError
		if errors.As(err, &permanent) {
			return permanent.Err
		}
		if lasted > retry.Highest {
			attempt = 0
			retry.Reset()
		}
		pause := retry.Next()
		level := slog.LevelDebug
		if attempt == 0 {
			level = slog.LevelInfo
		}
		logger.Log(ctx, level, "connection lost, trying again", "role", string(d.Role), "err", err, "pause", pause)
		if err := backoff.Wait(ctx, pause); err != nil {
			return err
		}
	}
}

// once makes and uses one connection, and tells how long it lasted.
func (d *Dialer) once(ctx context.Context, attempt int, addr func(int) (string, error), use func(context.Context, *Conn) error) (time.Duration, error) {
	to, err := addr(attempt)
	if err != nil {
		return 0, err
	}
	c, err := Dial(ctx, to, d.DialOptions)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	err = use(ctx, c)
	_ = c.Close()
	return time.Since(start), err
}

func (d *Dialer) backoff() backoff.Backoff {
	lowest, highest := d.MinBackoff, d.MaxBackoff
	if lowest <= 0 {
		lowest = defaultMinBackoff
	}
	if highest <= 0 {
		highest = defaultMaxBackoff
	}
	return backoff.Backoff{Lowest: lowest, Highest: max(lowest, highest)}
}
