package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tbhist/client"
)

// manager is a socket as systemd has one.
type manager struct {
	*net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "n") // names of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), os.RemoveAll(dir) })
	return &manager{conn, path}
}

// next waits for what is told next.
func (m *manager) next(t *testing.T) string {
	t.Helper()
	if err := m.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := m.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestWatchdogTime(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		usec, pid, socket string
		want              time.Duration
		wrong             bool
	}{
		{"", "", "x", 0, false},
		{"30000000", "", "", 0, false},
		{"30000000", "", "x", 30 * time.Second, false},
		{"30000000", me, "x", 30 * time.Second, false},
		{"30000000", "1", "x", 0, false},
		{"30s", me, "x", 0, true},
		{"0", me, "x", 0, true},
		{"-5", me, "x", 0, true},
		{"9223372036854775807", me, "x", 0, true},
		{"what", "1", "x", 0, false},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		t.Setenv("NOTIFY_SOCKET", c.socket)
		if got, err := watchdogTime(); got != c.want || (err != nil) != c.wrong {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}

// The watchdog is fed while batches go through, while none comes, and while
// the disk is known to refuse them; not while one does not end.
func TestWatchdogFed(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	conn, err := dialNotify()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	degraded := false
	w := &watchdog{
		every: time.Second, pulse: &pulse{}, conn: conn, degraded: func() bool { return degraded },
		log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	ticks := make(chan time.Time)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.feed(ctx, ticks) }()
	// tick lets a tick pass and gives how often the watchdog was fed: a
	// second one is taken only when the first was done with.
	tick := func() (fed bool) {
		ticks <- time.Time{}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := notify("END=1"); err != nil {
			t.Fatal(err)
		}
		for {
			switch got := m.next(t); got {
			case "END=1":
				if w.conn, err = dialNotify(); err != nil {
					t.Fatal(err)
				}
				ctx, cancel = context.WithCancel(t.Context())
				go func() { ended <- w.feed(ctx, ticks) }()
				return fed
			case notifyAlive:
				fed = true
			default:
				t.Fatalf("told %q", got)
			}
		}
	}
	want := func(why string, fed ...bool) {
		t.Helper()
		for i, f := range fed {
			if tick() != f {
				t.Errorf("%s, tick %d: fed is %v", why, i+1, !f)
			}
		}
	}
	want("nothing comes", true, true, true, true)
	for range 5 {
		w.pulse.begin()
		want("a batch in hand", true, true)
		w.pulse.end()
		w.pulse.begin()
		w.pulse.end()
	}
	w.pulse.begin()
	want("a batch that does not end", true, true, false, false, false)
	if n := strings.Count(log.String(), "not fed"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, &log)
	}
	degraded = true
	want("the disk is known to refuse", true, true)
	degraded = false
	want("it no longer is", false)
	w.pulse.end()
	want("it ended after all", true, true, true)
	w.pulse.begin()
	want("the next one", true, true, false)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The pipeline has a batch, or what is to be forgotten, in hand only while it
// has.
func TestPipelinePulse(t *testing.T) {
	b, stop := runBroker(t, nil)
	c := clientOf(t, b.url())
	for i := range 3 {
		if _, err := c.Send(t.Context(), client.Message{Name: "a", Data: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.forget(t.Context(), "a", false, false); err != nil {
		t.Fatal(err)
	}
	stop()
	if n := b.pulse.steps.Load(); n != 8 {
		t.Errorf("%d steps, want two for each of three batches and one forgetting", n)
	}
}

// A real broker tells that it is ready, then again and again that it works,
// then that it stops.
func TestWatchdogOfProcess(t *testing.T) {
	m := newManager(t)
	env := append(cleanEnv(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=100000")
	s, err := startServe(t.TempDir(), env)
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	for i, want := range []string{notifyReady, notifyAlive, notifyAlive, notifyAlive} {
		if got := m.next(t); got != want {
			t.Fatalf("told %q at %d, want %q", got, i, want)
		}
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = s.end(syscall.SIGTERM) }()
	for m.next(t) != notifyStopping {
	}
	<-ended
	if s.code != 0 {
		t.Errorf("ends with %d", s.code)
	}
}
