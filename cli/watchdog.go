package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// pulse counts the steps of the pipeline: odd while a batch is in its hands,
// even while it waits for one.
type pulse struct{ steps atomic.Uint64 }

func (p *pulse) begin() { p.steps.Add(1) }
func (p *pulse) end()   { p.steps.Add(1) }

// watchdog tells systemd that the broker works, as long as it does: batches
// go through the pipeline, or none comes, or the disk refuses them and that
// is known. One batch that does not end, on a disk that gives no answer or
// behind a lock, is what a restart may mend.
type watchdog struct {
	every    time.Duration // half of what systemd waits for
	pulse    *pulse
	degraded func() bool
	log      *slog.Logger
	// conn is kept, so that it is fed when no file descriptors are left.
	conn *net.UnixConn

	seen  uint64 // the steps, when it looked last
	stuck int    // how often it has found the same batch in hand since
	quiet bool   // it said that it does not feed
}

// watchdogTime is how long systemd waits for a sign before it ends this
// process; 0 when it does not.
func watchdogTime() (time.Duration, error) {
	text := os.Getenv("WATCHDOG_USEC")
	if text == "" || os.Getenv("NOTIFY_SOCKET") == "" {
		return 0, nil
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil // meant for who started this
	}
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || usec <= 0 || usec > int64(time.Duration(1<<63-1)/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC=%s is not a number of microseconds", text)
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// watchOver has systemd's watchdog fed while the broker runs, if it has one.
func (b *broker) watchOver() error {
	within, err := watchdogTime()
	if within == 0 || err != nil {
		return err
	}
	conn, err := dialNotify()
	if err != nil {
		return err
	}
	b.watchdog = &watchdog{
		every: max(within/2, time.Millisecond), pulse: &b.pulse, log: b.log, conn: conn,
		degraded: func() bool { return b.db.State().Degraded != "" },
	}
	return nil
}

// run feeds the watchdog until ctx ends, and closes the connection.
func (w *watchdog) run(ctx context.Context) error {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	return w.feed(ctx, ticker.C)
}

func (w *watchdog) feed(ctx context.Context, ticks <-chan time.Time) error {
	defer func() { _ = w.conn.Close() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
		}
		switch alive := w.alive(); {
		case alive:
			w.quiet = false
			w.tell()
		case !w.quiet:
			w.quiet = true
			w.log.Error("a batch has been under way for too long, and the disk reports no error: the watchdog of systemd is not fed, so that it starts the broker anew",
				"for", 2*w.every)
		}
	}
}

// alive tells whether the pipeline moves. A batch may take as long as systemd
// waits: it is met at three ticks then.
func (w *watchdog) alive() bool {
	steps := w.pulse.steps.Load()
	if steps != w.seen || steps%2 == 0 {
		w.seen, w.stuck = steps, 0
		return true
	}
	w.stuck++
	return w.stuck < 2 || w.degraded()
}

// tell sends one sign of life. A queue of systemd that is full may not hold
// it for ever; the next tick tries again.
func (w *watchdog) tell() {
	_ = w.conn.SetWriteDeadline(time.Now().Add(w.every))
	if _, err := w.conn.Write([]byte(notifyAlive)); err == nil {
		return
	}
	conn, err := dialNotify() // systemd may have been started anew
	if err == nil && conn != nil {
		_ = w.conn.Close()
		w.conn = conn
		_ = conn.SetWriteDeadline(time.Now().Add(w.every))
		_, err = conn.Write([]byte(notifyAlive))
	}
	if err != nil {
		w.log.Warn("systemd could not be told", "state", notifyAlive, "err", err)
	}
}
