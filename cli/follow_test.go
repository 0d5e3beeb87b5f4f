package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

// Followers that begin while updates pour in have every one of their Things
// once and in order, from the first to the last.
func TestFollowUnderLoad(t *testing.T) {
	b := serve(t, t.TempDir())
	send := adaptor(t, b.port)
	const things, rounds, followers = 20, 1000, 6
	var following sync.WaitGroup
	for i := range rounds {
		if i%(rounds/followers) == 0 {
			q := client.Query{Name: thing.Name(fmt.Sprintf("lab.t%d", i%things))}
			want := rounds
			if i == 0 {
				q, want = client.Query{}, rounds*things
			}
			following.Go(func() { followAll(t, clientOf(t, b.broker), q, want) })
		}
		for n := range things {
			send(fmt.Sprintf("lab.t%d", n), i)
		}
	}
	following.Wait()
}

// followAll follows until it has so many updates.
func followAll(t *testing.T, c *client.Client, q client.Query, want int) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	next, seq, n := map[thing.Name]uint64{}, uint64(0), 0
	for e, err := range c.Follow(ctx, q) {
		switch {
		case err != nil:
			t.Errorf("following %q: %v after %d of %d updates", q.Name, err, n, want)
			return
		case e.Kind == client.Gap:
			t.Errorf("following %q: a gap of %d", q.Name, e.Missing)
		case e.Kind == client.Updated:
			u := &e.Update
			if next[u.Name]++; u.ThingSeq != next[u.Name] || u.Seq <= seq {
				t.Errorf("following %q: %s has thing_seq %d where %d is next, and seq %d behind %d", q.Name, u.Name, u.ThingSeq, next[u.Name], u.Seq, seq)
				return
			}
			seq = u.Seq
			if n++; n == want {
				return
			}
		}
	}
}

// A follower that is begun with --follow outlives its broker, and prints what
// the next one received; one that finds none at first fails.
func TestFollowOutlivesBroker(t *testing.T) {
	dir := t.TempDir()
	b := serve(t, dir)
	runs(t, "send", "shop.a", "1", "--broker", b.broker)
	follower, next := following(t, "replay", "--follow", "--ns", "shop", "--format", "json", "--broker", b.broker)
	next(`"data": 1,`)
	b.kill()
	if _, err := follower.await("trying again until interrupted"); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run(t, "replay", "--follow", "--broker", b.broker)
	if code != 1 || !strings.Contains(stderr, "no broker answers at "+b.broker) {
		t.Errorf("without a broker it ends with %d and says %q", code, stderr)
	}
	b = serve(t, dir, "--listen", "127.0.0.1:"+itoa(b.port))
	runs(t, "send", "shop.a", "2", "--broker", b.broker)
	next(`"data": 2,`)
	if code, err := follower.end(syscall.SIGINT); err != nil || code != 0 || !strings.Contains(follower.log(), "connected again") {
		t.Errorf("ends with %d, %v, and says %q", code, err, follower.log())
	}
}

// tail goes on, too, and tells what it missed: here what came before it was
// back, which the next numbers prove.
func TestTailOutlivesBroker(t *testing.T) {
	dir := t.TempDir()
	b := serve(t, dir)
	port := b.port
	runs(t, "send", "shop.a", "1", "--broker", b.broker)
	tail, next := following(t, "tail", "--ns", "shop", "--snapshots", "--broker", b.broker)
	next("shop.a 1 (snapshot)")
	runs(t, "send", "shop.a", "2", "--broker", b.broker)
	next("shop.a 2")
	b.kill()
	if _, err := tail.await("trying again until interrupted"); err != nil {
		t.Fatal(err)
	}
	b = serve(t, dir) // where tail does not find it
	for _, data := range []string{"3", "4", "5"} {
		runs(t, "send", "shop.a", data, "--broker", b.broker)
	}
	b.kill()
	b = serve(t, dir, "--listen", "127.0.0.1:"+itoa(port))
	next("shop.a 5 (snapshot)")
	runs(t, "send", "shop.a", "6", "--broker", b.broker)
	next("shop.a 6")
	if code, err := tail.end(syscall.SIGTERM); err != nil || code != 0 || !strings.Contains(tail.log(), "missed 3 updates") {
		t.Errorf("ends with %d, %v, and says %q", code, err, tail.log())
	}
}

// following starts a command that goes on for ever; next waits for the next
// line that it prints, which must have what is wanted.
func following(t *testing.T, args ...string) (p *process, next func(want string)) {
	t.Helper()
	cmd := command(args...)
	cmd.Env = cleanEnv()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p, err = start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	lines := bufio.NewReader(stdout)
	return p, func(want string) {
		t.Helper()
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		line, err := lines.ReadString('\n')
		if err != nil || !strings.Contains(line, want) {
			t.Fatalf("%q was printed, %v; want %q: %s", line, err, want, p.log())
		}
	}
}
