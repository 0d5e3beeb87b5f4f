//go:build proof

package proof

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

// What a follower goes through, and under what load.
const (
	followRate   = 20_000
	followThings = 25 // in each of four namespaces, of which two are followed
	followRing   = 40 // updates kept of a Thing in one of the two
	followSome   = 5_000
	followPause  = 3 * time.Second

	crowdRate   = 5_000
	crowdGroups = 50
	crowdThings = 2 // in each group
	crowdSize   = 100
	crowdSome   = 200
)

func rounds(t *testing.T) int {
	t.Helper()
	s := os.Getenv("TBHIST_FOLLOW_ROUNDS")
	if s == "" {
		return 3
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("TBHIST_FOLLOW_ROUNDS is %q", s)
	}
	return n
}

// A follower of a subtree that is begun under load has exactly what history
// has, whatever happens to the broker, to connections and to itself; where
// history has lost what it did not have in time, gaps account for each
// update.
func TestFollowThroughEverything(t *testing.T) {
	b := startBroker(t, "--ring", "1000000", "--keep", fmt.Sprintf("short=%d", followRing))
	cut := startCutter(t, b)
	var whole, missing, times int
	n := rounds(t)
	for round := range n {
		roots := map[string]thing.Name{}
		var names, last []string
		for _, kind := range []string{"long", "short", "a", "b"} {
			root := fmt.Sprintf("%s.r%d", kind, round)
			roots[kind] = thing.Name(root)
			for i := range followThings {
				names = append(names, fmt.Sprintf("%s.t%d", root, i))
			}
		}
		l := startLoad(t, b, followRate, names)
		accepted := func() float64 { return b.metric(`tbhist_updates_accepted_total{transport="zmq"}`) }
		begun := accepted()
		eventually(t, "there is a history to begin with", func() bool { return accepted() > begun+followRate/2 })
		followers := []*follower{
			startFollower(t.Context(), t, cut.url(), client.Query{Name: roots["long"]}),
			startFollower(t.Context(), t, cut.url(), client.Query{Name: roots["short"]}),
		}
		more := func(after string) {
			t.Helper()
			awaitMore(t, followers, followSome, after)
		}
		back := func(after string, do func()) {
			t.Helper()
			var lost [2]int64
			for i, f := range followers {
				lost[i] = f.lost.Load()
			}
			do()
			for i, f := range followers {
				eventually(t, "connections are lost by "+after, func() bool { return f.lost.Load() > lost[i] })
			}
			more(after)
		}
		more("the beginning")
		back("a cut", cut.cut)
		back("a SIGKILL", func() {
			b.kill()
			b.start()
		})
		for _, f := range followers {
			f.pause <- followPause
		}
		more("a pause")
		// And all at once.
		for _, f := range followers {
			f.pause <- followPause
		}
		cut.cut()
		b.kill()
		b.start()
		more("all of it")

		for _, kind := range []string{"long", "short"} {
			last = append(last, string(roots[kind])+".t0")
		}
		l.finish(t, b, last)
		for i, f := range followers {
			f.wait(t)
			gone, kept := f.verify(t, b)
			times += int(f.lost.Load())
			if i == 0 {
				whole += len(f.got)
				if gone != 0 || kept != len(f.got) {
					t.Errorf("of %q %d updates came, history has %d, %d are missing", f.q.Name, len(f.got), kept, gone)
				}
			} else if missing += int(gone); gone == 0 {
				t.Errorf("of %q nothing is missing: %d came", f.q.Name, len(f.got))
			}
		}
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
	cut.mu.Lock()
	defer cut.mu.Unlock()
	if cut.cuts < 2*n {
		t.Errorf("only %d cuts in the middle of something", cut.cuts)
	}
	measured(t, "followers in %d rounds under 20,000 updates/s with SIGKILL, cuts in mid-frame and pauses, %d times without a broker: %d updates exactly as history has them; where it holds %d of a Thing, gaps account for each of %d missing",
		n, times, whole, followRing, missing)
}

// A hundred followers, each on a fiftieth of the Things, have all of it, over
// a restart and cuts that hit them all at once.
func TestFollowCrowd(t *testing.T) {
	b := startBroker(t, "--ring", "1000000")
	cut := startCutter(t, b)
	var names, last []string
	for i := range crowdGroups * crowdThings {
		names = append(names, fmt.Sprintf("lab.g%d.t%d", i%crowdGroups, i/crowdGroups))
	}
	l := startLoad(t, b, crowdRate, names)
	var followers []*follower
	for i := range crowdSize {
		name := fmt.Sprintf("lab.g%d", i%crowdGroups)
		if i < crowdGroups {
			last = append(last, name+".t0")
		}
		followers = append(followers, startFollower(t.Context(), t, cut.url(), client.Query{Name: thing.Name(name)}))
	}
	awaitMore(t, followers, crowdSome, "the beginning")
	b.kill()
	b.start()
	awaitMore(t, followers, crowdSome, "a restart")
	asked := b.metric(`tbhist_history_requests_total{type="replay"}`)
	if asked > 3*crowdSize {
		t.Errorf("%d followers asked %v times for history behind a restart", crowdSize, asked)
	}
	cut.cut()
	awaitMore(t, followers, crowdSome, "a cut")
	l.finish(t, b, last)
	total, lost := 0, 0
	for _, f := range followers {
		f.wait(t)
		gone, kept := f.verify(t, b)
		if gone != 0 || kept != len(f.got) {
			t.Errorf("of %q %d updates came, history has %d, %d are missing", f.q.Name, len(f.got), kept, gone)
		}
		total, lost = total+len(f.got), lost+int(f.lost.Load())
	}
	measured(t, "%d followers, each on a %dth of the Things, at 5,000 updates/s: %d updates exactly as history has them, over %d lost connections; they had asked %.0f times for history when all were back from a restart",
		crowdSize, crowdGroups, total, lost, asked)
}
