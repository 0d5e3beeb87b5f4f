package zmtp

import (
	"context"
	"errors"
	"net"
	"time"
)

// How long accepting pauses after an error: twice as long each time.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// accept takes connections until the listening socket is closed. When it
// fails for another reason, most likely that file descriptors are used up,
// it pauses and tries again.
func (l *Listener) accept(ctx context.Context) error {
	var pause time.Duration
	for {
		nc, err := l.ln.Accept()
		switch {
		case err == nil:
			if pause >= maxAcceptPause {
				l.o.Logger.Info("accepting connections again", "listener", l.o.Name)
			}
			pause = 0
			l.begin(ctx, nc)
			continue
		case errors.Is(err, net.ErrClosed), ctx.Err() != nil:
			return err
		}
		pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
		if pause == maxAcceptPause {
			l.log.acceptFailed(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
