//go:build proof

package proof

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

// lastData is the data of the update that ends what a follower waits for.
const lastData = `"the last one"`

var seed = maphash.MakeSeed()

// seen is one update: its numbers, and a hash of all of it.
type seen struct {
	seq, thingSeq uint64
	name          thing.Name
	hash          uint64
}

func seenOf(u *client.Update) seen {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, b := range [][]byte{[]byte(u.Name), u.Data, u.Doc, strconv.AppendInt(nil, int64(u.Received), 10), strconv.AppendFloat(nil, u.TS, 'g', -1, 64)} {
		_, _ = h.Write(b) // which never fails
		_ = h.WriteByte(0)
	}
	return seen{u.Seq, u.ThingSeq, u.Name, h.Sum64()}
}

// follower follows a subtree until its last update has come.
type follower struct {
	q     client.Query
	pause chan time.Duration // how long to take nothing
	done  chan error

	updates, caughtUp, lost atomic.Int64

	// The goroutine's own, until done.
	got    []seen
	gaps   map[thing.Name]uint64 // exact, by Thing
	others uint64                // in gaps that are not exact, or of no Thing
	epochs int
}

func startFollower(ctx context.Context, t *testing.T, broker string, q client.Query) *follower {
	t.Helper()
	c, err := client.New(client.Options{Broker: broker})
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{q: q, pause: make(chan time.Duration, 1), done: make(chan error, 1), gaps: map[thing.Name]uint64{}}
	go func() { f.done <- f.run(ctx, c) }()
	return f
}

func (f *follower) run(ctx context.Context, c *client.Client) error {
	for e, err := range c.Follow(ctx, f.q) {
		if err != nil {
			return err
		}
		switch e.Kind {
		case client.Updated:
			f.got = append(f.got, seenOf(&e.Update))
			f.updates.Add(1)
			if string(e.Update.Data) == lastData {
				return nil
			}
		case client.Gap:
			if e.MissingExact && e.Thing != nil {
				f.gaps[*e.Thing] += e.Missing
			} else {
				f.others += e.Missing
			}
		case client.CaughtUp:
			f.caughtUp.Add(1)
		case client.Disconnected:
			f.lost.Add(1)
		case client.NewEpoch:
			f.epochs++
		}
		select {
		case d := <-f.pause:
			<-time.After(d)
		default:
		}
	}
	return errors.New("it ended")
}

// awaitMore waits until so many more updates have come to each follower.
func awaitMore(t *testing.T, followers []*follower, n int64, after string) {
	t.Helper()
	want := make([]int64, len(followers))
	for i, f := range followers {
		want[i] = f.updates.Load() + n
	}
	for i, f := range followers {
		eventually(t, fmt.Sprintf("more of %q comes after %s", f.q.Name, after), func() bool { return f.updates.Load() >= want[i] })
	}
}

// wait waits for the last update.
func (f *follower) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-f.done:
		if err != nil {
			t.Fatalf("following %q: %v", f.q.Name, err)
		}
	case <-time.After(2 * patience):
		t.Fatalf("following %q: the last update did not come; %d came, %d times caught up, %d times lost",
			f.q.Name, f.updates.Load(), f.caughtUp.Load(), f.lost.Load())
	}
}

// verify demands that what came is in order, that the gaps account for all
// that did not, and that all that history holds did come. It gives how many
// updates are missing, and how many history holds.
func (f *follower) verify(t *testing.T, b *broker) (missing uint64, kept int) {
	t.Helper()
	last, holes := map[thing.Name]uint64{}, map[thing.Name]uint64{}
	var seq uint64
	for _, u := range f.got {
		switch {
		case u.seq <= seq:
			t.Fatalf("seq %d of %q comes behind %d", u.seq, u.name, seq)
		case u.thingSeq <= last[u.name]:
			t.Fatalf("thing_seq %d of %q comes behind %d", u.thingSeq, u.name, last[u.name])
		}
		holes[u.name] += u.thingSeq - last[u.name] - 1
		seq, last[u.name] = u.seq, u.thingSeq
	}
	for name, n := range holes {
		if f.gaps[name] != n {
			t.Errorf("%d updates of %q did not come, and gaps tell of %d", n, name, f.gaps[name])
		}
		missing += n
	}
	if f.others != 0 || f.epochs != 0 {
		t.Errorf("following %q: gaps of %d updates that are of no Thing or not exact, %d new epochs", f.q.Name, f.others, f.epochs)
	}

	c, err := client.New(client.Options{Broker: b.url(feedPort)})
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for u, err := range c.Replay(t.Context(), client.Query{Name: f.q.Name}).Updates() {
		if err != nil {
			t.Fatal(err)
		}
		want := seenOf(&u)
		for i < len(f.got) && f.got[i].seq < want.seq {
			i++
		}
		if i == len(f.got) || f.got[i] != want {
			t.Fatalf("history has seq %d of %q, and it did not come as it is there", u.Seq, u.Name)
		}
		kept++
	}
	return missing, kept
}
