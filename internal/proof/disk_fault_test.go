//go:build proof

package proof

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// faults are system calls of a running broker that fail, by strace.
type faults struct {
	t     *testing.T
	cmd   *exec.Cmd
	said  *logBuffer
	trace string
	ended chan struct{}
}

// inject makes calls of the broker fail from now on, as strace's option
// inject says; trace names more calls to write down.
func inject(t *testing.T, b *broker, trace string, inject ...string) *faults {
	t.Helper()
	f := &faults{
		t: t, said: &logBuffer{changed: make(chan struct{})}, ended: make(chan struct{}),
		trace: filepath.Join(t.TempDir(), "trace"),
	}
	args := []string{"-f", "-o", f.trace, "-e", "trace=" + trace, "-e", "signal=none"}
	for _, how := range inject {
		args = append(args, "-e", "inject="+how)
	}
	f.cmd = exec.Command(strace(t), append(args, "-p", strconv.Itoa(b.cmd.Process.Pid))...)
	f.cmd.Stderr = f.said
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.ended)
		_ = f.cmd.Wait() // it is interrupted
	}()
	t.Cleanup(f.stop)
	timeout := time.After(patience)
	for {
		said, changed := f.said.read()
		if strings.Contains(said, " attached") {
			return f
		}
		select {
		case <-changed:
		case <-f.ended:
			t.Fatalf("strace may not watch the broker: %s", f.said)
		case <-timeout:
			t.Fatalf("strace does not watch the broker: %s", f.said)
		}
	}
}

// stop lets calls succeed again; it may be called again.
func (f *faults) stop() {
	_ = f.cmd.Process.Signal(syscall.SIGINT) // it may have ended
	<-f.ended
}

// hit counts what failed: writes, syncs that end the writing of a commit's
// pages, and syncs of its meta page.
type hit struct{ writes, first, second int }

var tracedCall = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?(pwrite64|fdatasync)\b`)

// hits reads what has failed up to now.
func (f *faults) hits() (h hit) {
	f.t.Helper()
	trace, err := os.ReadFile(f.trace)
	if err != nil {
		f.t.Fatal(err)
	}
	meta := false // the last write was to a meta page
	for line := range strings.Lines(string(trace)) {
		m := tracedCall.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		failed := strings.Contains(line, "(INJECTED)")
		switch {
		case m[2] == "pwrite64" && failed:
			h.writes++
		case m[2] == "pwrite64":
			meta = strings.Contains(line, ", 4096, 0") || strings.Contains(line, ", 4096, 4096")
		case failed && meta:
			h.second++
		case failed:
			h.first++
		}
	}
	return h
}

// diskRig is a broker with a disk that fails, and peers that see what it makes
// of it.
type diskRig struct {
	t      *testing.T
	b      *broker
	in     socket
	out    socket
	beats  socket
	ask    asker
	c      *keptCheck
	n      int // of the next update
	null   map[int]bool
	unkept int
}

func startDiskRig(t *testing.T, args ...string) *diskRig {
	t.Helper()
	strace(t)
	b := startBroker(t, args...)
	z := startLibzmq(t)
	soon := options{"RECONNECT_IVL": 20}
	r := &diskRig{t: t, b: b, null: make(map[int]bool)}
	r.in = z.publisher(b, "in", b.url(inputPort), soon)
	all := options{"RECONNECT_IVL": 20, "RCVHWM": 0}
	r.out = z.open("SUB", "out", b.url(feedPort), all, `{"type": "thing_update"`)
	r.beats = startLibzmq(t).open("SUB", "beats", b.url(feedPort), all, `{"type": "thing_heartbeat"`)
	r.ask = z.asker("DEALER", "ask", b, soon)
	r.c = &keptCheck{t: t, ask: r.ask}
	eventually(t, "the subscribers are there", func() bool { return b.metric("tbhist_subscribers") == 2 })
	return r
}

// pass sends updates and waits until all have come out; it tells how many of
// them were not kept.
func (r *diskRig) pass(count, size int) (unkept int) {
	r.t.Helper()
	r.in.publish(r.n, count, 11, size)
	r.n += count
	for _, u := range r.out.updates(count) {
		if u.Seq == 0 {
			if u.ThingSeq != 0 {
				r.t.Fatalf("an update without a seq has a thing_seq: %.300s", u.line)
			}
			r.null[u.n(r.t)] = true
			unkept++
			continue
		}
		r.c.seen = append(r.c.seen, u.line)
	}
	r.unkept += unkept
	return unkept
}

// health gives the status and the text of /healthz.
func (r *diskRig) health() (int, string) {
	r.t.Helper()
	answer, err := http.Get("http://" + r.b.addr(httpPort) + "/healthz")
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.StatusCode, strings.TrimSpace(string(text))
}

// wantDegraded demands that everybody is told that updates are not kept, and
// why.
func (r *diskRig) wantDegraded(reason string) {
	r.t.Helper()
	if got := r.b.metric("tbhist_degraded"); got != 1 {
		r.t.Errorf("tbhist_degraded is %v", got)
	}
	if code, text := r.health(); code != http.StatusServiceUnavailable || !strings.Contains(text, reason) {
		r.t.Errorf("/healthz answers %d %q, want 503 with %q", code, text, reason)
	}
	r.awaitBeat(true)
	if log := r.b.log.String(); !strings.Contains(log, "the disk refuses commits") {
		r.t.Errorf("the log does not say that the disk refuses:\n%s", log)
	}
}

// awaitBeat waits for a heartbeat that says whether the disk refuses.
func (r *diskRig) awaitBeat(degraded bool) {
	r.t.Helper()
	eventually(r.t, "a heartbeat with degraded "+strconv.FormatBool(degraded), func() bool {
		for _, line := range r.beats.collect(1, 10) {
			if strings.Contains(line, `"degraded": true`) == degraded {
				return true
			}
		}
		return false
	})
}

// wantRecovered waits until the broker keeps updates again, by itself.
func (r *diskRig) wantRecovered() {
	r.t.Helper()
	eventually(r.t, "updates are kept again", func() bool { return r.b.metric("tbhist_degraded") == 0 })
	if code, text := r.health(); code != http.StatusOK {
		r.t.Errorf("/healthz answers %d %q", code, text)
	}
	r.awaitBeat(false)
	if n := r.pass(100, 100); n != 0 {
		r.t.Errorf("%d updates of 100 were not kept after it", n)
	}
}

// check demands that all that was seen with a seq is in history and nothing
// that was seen without.
func (r *diskRig) check() {
	r.t.Helper()
	from := len(r.c.kept)
	r.c.check()
	for _, line := range r.c.kept[from:] {
		u := parse(r.t, line)
		if r.null[u.n(r.t)] {
			r.t.Fatalf("an update that was published as not kept is in history: %.300s", line)
		}
	}
	wantWhole(r.t, r.c.kept)
}

// reconnect waits until the peers are back after a new start.
func (r *diskRig) reconnect() {
	r.t.Helper()
	eventually(r.t, "the subscribers are back", func() bool {
		// libzmq subscribes anew only while it is asked for messages.
		r.c.seen = append(r.c.seen, r.out.collect(1, 0.05)...)
		r.beats.collect(1, 0.05)
		return r.b.metric("tbhist_subscribers") == 2
	})
	r.in = r.in.libzmq.publisher(r.b, "in"+strconv.Itoa(r.n), r.b.url(inputPort), nil)
}

// crash kills the broker, starts it again and demands the same, and that the
// directory is the last of each Thing that was kept.
func (r *diskRig) crash() {
	r.t.Helper()
	r.b.kill()
	r.b.start()
	r.check()
	replayed, _ := r.ask.all(args{"type": "replay"})
	if !slices.Equal(replayed, r.c.kept) {
		r.t.Errorf("history as a whole, %d lines, is not what it was, %d lines", len(replayed), len(r.c.kept))
	}
	directory, _ := r.ask.all(args{"type": "directory"})
	wantDirectory(r.t, directory, wantWhole(r.t, replayed))
	r.reconnect()
	if n := r.pass(50, 100); n != 0 {
		r.t.Errorf("%d updates of 50 were not kept after a new start", n)
	}
	r.check()
}
