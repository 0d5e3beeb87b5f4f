package cli

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

// Nothing is drawn at first, then five times a second at most, and at the end
// nothing of it is left; what else is said stands on a line of its own.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen strings.Builder
		p := &progress{liveLine: liveLine{w: &screen}, clock: clock{utc: true}}
		shown := func() string {
			p.mu.Lock()
			defer p.mu.Unlock()
			s := screen.String()
			screen.Reset()
			return s
		}
		p.start()
		noted := uint64(0)
		step := func(d time.Duration, n int) string {
			for range n {
				noted++
				p.note(&client.Update{Seq: 1000 + noted, Received: thing.MicrosOfSeconds(1e9 + float64(noted) - 1)}, 3000)
			}
			time.Sleep(d) //nolint:forbidigo // in a bubble of its own time
			synctest.Wait()
			return shown()
		}
		if s := step(progressAfter-time.Millisecond, 500); s != "" {
			t.Errorf("at once it draws %q", s)
		}
		if s := step(time.Millisecond, 0); s != "\r500 updates, 500/s, at 2001-09-09T01:54:59.000Z, 24 %\x1b[K" {
			t.Errorf("it draws %q", s)
		}
		if s := step(progressEvery-time.Millisecond, 500); s != "" {
			t.Errorf("too soon it draws %q", s)
		}
		if s := step(time.Millisecond, 0); !strings.HasPrefix(s, "\r1,000 updates, ") || !strings.Contains(s, ", 49 %") {
			t.Errorf("it draws %q", s)
		}
		fmt.Fprint(p, "said\n")
		if s := shown(); s != "\r\x1b[Ksaid\n" {
			t.Errorf("what is said looks like %q", s)
		}
		if s := step(time.Second, 0); strings.Count(s, "\r") != 5 {
			t.Errorf("in a second it draws %q", s)
		}
		p.stop()
		if s := shown(); s != "\r\x1b[K" {
			t.Errorf("at the end it writes %q", s)
		}
	})
}

func TestProgressShare(t *testing.T) {
	for _, c := range []struct {
		p    *progress
		want float64
	}{
		{&progress{}, 0},
		{&progress{count: 1, first: mark{5, 1}, last: mark{5, 1}, head: 5}, 0},
		{&progress{count: 2, first: mark{5, 10}, last: mark{6, 20}, head: 9}, 0.25},
		{&progress{count: 2, first: mark{5, 10}, last: mark{6, 20}, head: 9, until: 30}, 0.5},
		{&progress{count: 2, first: mark{5, 10}, last: mark{6, 20}, head: 9, limit: 4}, 0.5},
		{&progress{count: 2, first: mark{5, 10}, last: mark{6, 50}, until: 30}, 1},
	} {
		if got := c.p.share(); got != c.want {
			t.Errorf("the share is %v, want %v", got, c.want)
		}
	}
}
