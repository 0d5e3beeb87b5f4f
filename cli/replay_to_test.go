package cli

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

// cutter passes the ports of a broker on, and cuts the connections to one of
// them in mid-stream.
type cutter struct {
	broker string
	cuts   atomic.Int64 // that were made
}

// newCutter cuts the first so many connections to the port at an offset when
// they have passed on so many bytes, whichever way.
func newCutter(t *testing.T, to *serveProcess, offset, first int, bytes int64) *cutter {
	t.Helper()
	c := &cutter{}
	var lns []net.Listener
	for port := 0; len(lns) < 4; { // that follow one another
		for _, ln := range lns {
			_ = ln.Close()
		}
		lns = nil
		for i := range 4 {
			ln, err := net.Listen("tcp", "127.0.0.1:"+itoa(port))
			if err != nil {
				port = 0
				break
			}
			lns = append(lns, ln)
			port = ln.Addr().(*net.TCPAddr).Port + 1 //nolint:forcetypeassert // it is TCP
			if i == 0 {
				c.broker = "tcp://" + ln.Addr().String()
			}
		}
	}
	var left atomic.Int64
	left.Store(int64(first))
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	for i, ln := range lns {
		all.Go(func() {
			for {
				in, err := ln.Accept()
				if err != nil {
					return
				}
				out, err := net.Dial("tcp", "127.0.0.1:"+itoa(to.port+i))
				if err != nil {
					_ = in.Close()
					continue
				}
				mu.Lock()
				conns = append(conns, in, out)
				mu.Unlock()
				cut := i == offset && left.Add(-1) >= 0
				for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
					all.Go(func() {
						if !cut {
							_, _ = io.Copy(way[1], way[0])
							_ = way[1].(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it is TCP
							return
						}
						if _, err := io.CopyN(way[1], way[0], bytes); err == nil {
							c.cuts.Add(1)
						}
						for _, conn := range way {
							_ = conn.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // it is TCP
							_ = conn.Close()
						}
					})
				}
			}
		})
	}
	t.Cleanup(func() {
		for _, ln := range lns {
			_ = ln.Close()
		}
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return c
}

// filled starts a broker with n updates of some Things.
func filled(t *testing.T, n, bytes int) *serveProcess {
	t.Helper()
	b := serve(t, t.TempDir())
	send := adaptor(t, b.port)
	padding := strings.Repeat("x", bytes)
	for i := range n {
		send(fmt.Sprintf("lab.t%d", i%7), map[string]any{"n": i, "padding": padding})
	}
	awaitMetric(t, b, "tbhist_history_updates", itoa(n))
	return b
}

// wantReplayed checks that a broker has each update of another, with another
// name, once and in order, or also more than once.
func wantReplayed(t *testing.T, from, to *serveProcess, prefix string, once bool) {
	t.Helper()
	type what struct {
		name, data, doc string
		ts              float64
	}
	list := func(b *serveProcess, q client.Query, prefix string) (all []what) {
		for _, u := range replayAll(t, b.broker, q) {
			all = append(all, what{prefix + string(u.Name), string(u.Data), string(u.Doc), u.TS})
		}
		return all
	}
	want := list(from, client.Query{}, prefix)
	arrived(t, to, len(want))
	got := list(to, client.Query{}, "")
	// With those that are there twice, the last may be on its way.
	for deadline := time.Now().Add(patience); len(want) > 0 && !slices.Contains(got, want[len(want)-1]) && time.Now().Before(deadline); {
		got = list(to, client.Query{}, "")
	}
	if once && len(got) != len(want) {
		t.Errorf("%d updates arrived of %d", len(got), len(want))
	}
	there := map[what]bool{}
	for i, w := range got {
		there[w] = true
		if once && i < len(want) && w != want[i] {
			t.Fatalf("%v arrived where %v is next", w, want[i])
		}
	}
	for _, w := range want {
		if !there[w] {
			t.Fatalf("%v is missing among %d", w, len(got))
		}
	}
	if len(there) != len(want) {
		t.Errorf("%d different updates arrived of %d", len(there), len(want))
	}
}

// arrived waits until a broker has so many updates at least: what it has read,
// it may not have committed yet.
func arrived(t *testing.T, b *serveProcess, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(replayAll(t, b.broker, client.Query{Limit: uint64(n)})) < n; {
		if time.Now().After(deadline) {
			t.Fatalf("fewer than %d updates arrived", n)
		}
	}
}

// Connections to the target are cut: nothing is missing there, and what was
// sent again is told.
func TestReplayToOutlivesCuts(t *testing.T) {
	from, to := filled(t, 5000, 100), serve(t, t.TempDir())
	c := newCutter(t, to, client.InputOffset, 3, 300_000)
	_, stderr, code := run(t, "replay", "--broker", from.broker, "--to", c.broker)
	if code != 0 || !strings.Contains(stderr, "5,000 updates sent to "+c.broker+"\n") || !strings.Contains(stderr, "sent again because the connection was lost") {
		t.Errorf("ends with %d and says %s", code, stderr)
	}
	if n := c.cuts.Load(); n < 2 {
		t.Errorf("%d connections were cut", n)
	}
	wantReplayed(t, from, to, "replay.", false)
}

// Connections to the source are cut: the replay goes on, with everything
// once.
func TestReplayToOutlivesCutsOfSource(t *testing.T) {
	from, to := filled(t, 5000, 900), serve(t, t.TempDir())
	c := newCutter(t, from, client.HistoryOffset, 4, 1_500_000) // pages have 1 MiB
	_, stderr, code := run(t, "replay", "--broker", c.broker, "--as-is", "--to", to.broker)
	if code != 0 || !strings.Contains(stderr, "trying again until interrupted\ntbhist: connected again\n") ||
		!strings.HasSuffix(stderr, "tbhist: 5,000 updates sent to "+to.broker+"\n") {
		t.Errorf("ends with %d and says %s", code, stderr)
	}
	if n := c.cuts.Load(); n < 2 {
		t.Errorf("%d connections were cut", n)
	}
	wantReplayed(t, from, to, "", true)
}

// A replay that is interrupted says how to go on, and that is right.
func TestReplayToInterrupted(t *testing.T) {
	from, to := serve(t, t.TempDir()), serve(t, t.TempDir())
	for i, ts := range []string{"1", "1.1", "1.2", "1e6", "1000001"} {
		runs(t, "send", "shop.a", itoa(i), "--ts", strings.Replace(ts, "1e6", "1000000", 1), "--broker", from.broker)
	}
	cmd := command("replay", "--broker", from.broker, "--to", to.broker, "--speed", "1", "--by", "ts", "--since", "1970-01-01T00:00:00Z", "--limit", "9")
	cmd.Env = cleanEnv()
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	awaitMetric(t, to, "tbhist_history_updates", "3")
	if code, err := p.end(syscall.SIGINT); err != nil || code != 130 ||
		p.log() != "tbhist: 3 updates sent to "+to.broker+"\ntbhist: to go on: the same command with --after 3 --limit 6\n" {
		t.Fatalf("ends with %d, %v, and says %s", code, err, p.log())
	}
	runs(t, "replay", "--broker", from.broker, "--to", to.broker, "--after", "3", "--limit", "6")
	wantReplayed(t, from, to, "replay.", true)
}

// With --follow, what comes in is sent on too.
func TestReplayToFollows(t *testing.T) {
	from, to := serve(t, t.TempDir()), serve(t, t.TempDir())
	runs(t, "send", "shop.a", "1", "--broker", from.broker)
	cmd := command("replay", "--broker", from.broker, "--to", to.broker, "--follow")
	cmd.Env = cleanEnv()
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	awaitMetric(t, to, "tbhist_history_updates", "1")
	runs(t, "send", "shop.a", "2", "--broker", from.broker)
	awaitMetric(t, to, "tbhist_history_updates", "2")
	if code, err := p.end(syscall.SIGTERM); err != nil || code != 0 || !strings.Contains(p.log(), "2 updates sent to") {
		t.Errorf("ends with %d, %v, and says %s", code, err, p.log())
	}
	wantReplayed(t, from, to, "replay.", true)
}

// A name that gets too long is skipped and counted; what the target refuses
// is told.
func TestReplayToSkips(t *testing.T) {
	from, to := serve(t, t.TempDir()), serve(t, t.TempDir(), "--max-update", "64KiB")
	part := strings.Repeat("x", 63)
	long := part
	for len(long)+1+len(part) <= thing.MaxNameBytes {
		long += "." + part
	}
	send := adaptor(t, from.port)
	send(long, 1)
	send("shop.a", strings.Repeat("x", 100_000))
	send("shop.b", 3)
	awaitMetric(t, from, "tbhist_history_updates", "3")
	_, stderr, code := run(t, "replay", "--broker", from.broker, "--to", to.broker)
	for _, want := range []string{
		"1 update skipped: with \"replay.\" before them their names would be longer than 1,024 bytes\n",
		"the broker refused 1 message or more meanwhile",
	} {
		if code != 0 || !strings.Contains(stderr, want) {
			t.Errorf("ends with %d and says %s", code, stderr)
		}
	}
	arrived(t, to, 1)
	if got := replayAll(t, to.broker, client.Query{}); len(got) != 1 || got[0].Name != "replay.shop.b" {
		t.Errorf("there arrived %v", got)
	}
}

// What is replayed to the broker that it is read from does not go round.
func TestReplayToItself(t *testing.T) {
	b := serve(t, t.TempDir())
	runs(t, "send", "shop.a", "1", "--broker", b.broker)
	runs(t, "send", "replayer", "2", "--broker", b.broker)
	itself := "localhost:" + itoa(b.port)
	for n, args := range map[int][]string{
		0: {"--as-is"}, 1: {"--ns", "replay"}, 2: {"--ns", "replay.replay", "--follow"},
	} {
		_, stderr, code := run(t, append([]string{"replay", "--broker", b.broker, "--to", itself}, args...)...)
		if code != 2 || !strings.Contains(stderr, "is the broker that is read from") {
			t.Errorf("%d: %v ends with %d and says %s", n, args, code, stderr)
		}
	}
	for i := range 3 { // all of it is read, and what was sent is not sent again
		run(t, "replay", "--broker", b.broker, "--to", itself)
		arrived(t, b, 2+2*(i+1))
	}
	run(t, "replay", "--broker", b.broker, "--to", itself, "--ns", "replay.shop")
	arrived(t, b, 11)
	count := map[thing.Name]int{}
	for _, u := range replayAll(t, b.broker, client.Query{}) {
		count[u.Name]++
	}
	if want := (map[thing.Name]int{"shop.a": 1, "replayer": 1, "replay.shop.a": 3, "replay.replayer": 3, "replay.replay.shop.a": 3}); fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("there are %v, want %v", count, want)
	}
}
