package cli

import (
	"context"
	"fmt"
	"sync"
	"testing"

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
