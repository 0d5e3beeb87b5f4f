package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tbhist/internal/zmtp"
	"tbhist/thing"
)

var fromZMQ = &thing.Source{Transport: thing.ZMQ}

func TestDrainAtClose(t *testing.T) {
	b := newBench(t, Options{})
	b.feed(fromZMQ, update("a", "1"), update("b", "2"))
	b.Close()
	batch, err := b.Next(b.ctx, time.Hour) // what is left does not wait
	if err != nil || len(batch.Updates) != 2 {
		t.Fatalf("got %+v, %v", batch, err)
	}
	b.Release(batch)
	if _, err := b.Next(b.ctx, 0); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
	if b.feed(fromZMQ, update("c", "3")) {
		t.Error("an update was taken after the end")
	}
}

// An input that waits ends with its context, and what it had taken from its
// peer is not lost, as long as memory stays bounded.
func TestEndWhileHeld(t *testing.T) {
	b := newBench(t, Options{QueueUpdates: 2})
	ctx, cancel := context.WithCancel(b.ctx)
	b.feed(fromZMQ, update("a", "1"), update("a", "2"))
	hold := func() chan bool {
		done := make(chan bool, 1)
		go func() {
			burst := newBurst(b.o.Limits)
			b.decode(burst, []byte(update("a", "3")), fromZMQ)
			b.decode(burst, []byte(update("a", "4")), fromZMQ)
			done <- b.handOver(ctx, burst, thing.ZMQ)
		}()
		return done
	}
	held := hold()
	b.wait("the input is held back", b.held)
	select {
	case <-held:
		t.Error("the input did not wait")
	default:
	}
	cancel()
	if !<-held {
		t.Error("the burst was not taken")
	}
	if <-hold() {
		t.Error("a burst was taken on top of twice the limit")
	}
	if lines := b.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "updates=2") {
		t.Errorf("logged %q, want the loss of 2 updates", lines)
	}
	b.Close()
	b.take(4, func(i int, u *thing.Update) {
		if string(u.Data) != fmt.Sprint(i+1) {
			t.Errorf("update %d is %s", i, u.Data)
		}
	})
}

// Close releases an input that still waits.
func TestCloseWhileHeld(t *testing.T) {
	b := newBench(t, Options{QueueUpdates: 1})
	b.feed(fromZMQ, update("a", "1"))
	done := make(chan bool, 1)
	go func() { done <- b.feed(fromZMQ, update("a", "2")) }()
	b.wait("the input is held back", b.held)
	b.Close()
	if <-done {
		t.Error("an update was taken after the end")
	}
	if got, want := b.one(), `"a" 1 null 5 from invalid IP/zmq`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	b := newBench(t, Options{})
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.Next(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	b.feed(fromZMQ, update("a", "1"))
	if got, want := b.one(), `"a" 1 null 5 from invalid IP/zmq`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(Options{QueueUpdates: 10})
		b := &bench{Ingest: in, t: t, ctx: t.Context()}
		start := time.Now()
		next := func(wantUpdates int, wantAfter time.Duration) {
			t.Helper()
			batch, err := in.Next(t.Context(), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if after := time.Since(start); len(batch.Updates) != wantUpdates || after != wantAfter {
				t.Errorf("%d updates after %v, want %d after %v", len(batch.Updates), after, wantUpdates, wantAfter)
			}
			in.Release(batch)
			start = time.Now()
		}
		feedAfter := func(d time.Duration, n int) {
			go func() {
				time.Sleep(d) //nolint:forbidigo // by the clock of the bubble
				for range n {
					b.feed(fromZMQ, update("a", "1"))
				}
			}()
		}

		// A second after the first update.
		feedAfter(100*time.Millisecond, 1)
		feedAfter(600*time.Millisecond, 2)
		next(3, 1100*time.Millisecond)
		// At once when half full, not a moment earlier.
		feedAfter(0, 4)
		feedAfter(500*time.Millisecond, 1)
		next(5, 500*time.Millisecond)
		// What is already older than that is not kept waiting again.
		b.feed(fromZMQ, update("a", "1"))
		time.Sleep(3 * time.Second) //nolint:forbidigo // by the clock of the bubble
		start = time.Now()
		next(1, 0)
		// Closing does not wait.
		b.feed(fromZMQ, update("a", "1"))
		go in.Close()
		next(1, 0)
	})
}

// With no gathering a batch comes as soon as there is an update.
func TestNoGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(Options{})
		b := &bench{Ingest: in, t: t, ctx: t.Context()}
		got := make(chan int)
		go func() {
			batch, err := in.Next(t.Context(), 0)
			if err != nil {
				t.Error(err)
			}
			got <- len(batch.Updates)
		}()
		synctest.Wait()
		b.feed(fromZMQ, update("a", "1"))
		if n := <-got; n != 1 {
			t.Errorf("%d updates", n)
		}
	})
}

// Batches keep what they were given while others are filled and given back.
func TestBatchesAreReused(t *testing.T) {
	b := newBench(t, Options{})
	seen, chunks := map[*Batch]bool{}, map[*byte]bool{}
	padding := strings.Repeat("x", 4000)      // two chunks a round
	large := strings.Repeat("x", chunkSize+1) // has a chunk of its own
	for round := range 20 {
		for i := range 100 {
			b.feed(fromZMQ, update("a", fmt.Sprintf(`"%d/%d%s"`, round, i, padding)))
		}
		b.feed(fromZMQ, update("a", `"`+large+`"`), update("a", `"last"`))
		batch, err := b.Next(b.ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		b.feed(fromZMQ, update("other", `"gathers meanwhile"`))
		bytes := 0
		for i := range 100 {
			if want := fmt.Sprintf(`"%d/%d%s"`, round, i, padding); string(batch.Updates[i+min(round, 1)].Data) != want {
				t.Fatalf("update %d is %s, want %s", i, batch.Updates[i+min(round, 1)].Data, want)
			}
		}
		for i := range batch.Updates {
			bytes += batch.Updates[i].Size()
		}
		if bytes != batch.Bytes {
			t.Errorf("the batch says %d bytes, its updates %d", batch.Bytes, bytes)
		}
		seen[batch] = true
		b.Release(batch)
		for _, c := range batch.spare {
			chunks[&c[:1][0]] = true
		}
		if len(batch.used) != 0 {
			t.Error("a batch that was given back holds on to something")
		}
	}
	if len(chunks) > 8 {
		t.Errorf("%d chunks were made for two batches that need 3 or 4", len(chunks))
	}
	if len(seen) > 2 {
		t.Errorf("%d batches were made, two are enough", len(seen))
	}
}

// Several inputs and a consumer at once: each input's order holds, nothing
// is lost or mixed up. (The race detector watches.)
func TestManyInputs(t *testing.T) {
	const inputs, each = 4, 2000
	b := newBench(t, Options{QueueUpdates: 100, QueueBytes: 20_000})
	addr := b.zmq(zmtp.Limits{})
	var wg sync.WaitGroup
	for k := range inputs {
		c := b.publisher(addr)
		wg.Go(func() {
			for i := range each {
				m := update(fmt.Sprintf("in%d", k), fmt.Sprintf(`{"input":%d,"i":%d}`, k, i))
				if err := c.Write(frame(m)); err != nil {
					t.Error(err)
					return
				}
			}
			if err := c.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
	next := map[thing.Name]int{}
	b.take(inputs*each, func(_ int, u *thing.Update) {
		var k int
		if _, err := fmt.Sscanf(string(u.Name), "in%d", &k); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"input":%d,"i":%d}`, k, next[u.Name]); string(u.Data) != want {
			t.Fatalf("%s has %s, want %s", u.Name, u.Data, want)
		}
		next[u.Name]++
	})
	wg.Wait()
}

func TestMaxThings(t *testing.T) {
	b := newBench(t, Options{MaxThings: 10})
	for i := range 7 {
		b.Know(thing.Name(fmt.Sprintf("restored.n%d", i)))
	}
	if lines := b.log.lines(); len(lines) != 0 {
		t.Errorf("with 7 of 10 Things logged %q", lines)
	}
	b.feed(fromZMQ, update("new.n0", "0"))
	lines := b.log.lines()
	if len(lines) != 1 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "things=8 max=10") {
		t.Errorf("with 8 of 10 Things logged %q, want one warning", lines)
	}
	// One that is refused takes nothing with it.
	b.feed(fromZMQ, update("new.n1", "1"), update("new.n2", "2"), update("over", "3"), update("new.n1", "4"), update("restored.n3", "5"), update("over", "6"))
	var got []string
	b.take(5, func(_ int, u *thing.Update) { got = append(got, fmt.Sprintf("%s=%s", u.Name, u.Data)) })
	if want := "new.n0=0 new.n1=1 new.n2=2 new.n1=4 restored.n3=5"; strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	if n := b.refusedBy(thing.ZMQ, thing.ReasonMaxThings); n != 2 {
		t.Errorf("%v refused", n)
	}
	lines = b.log.lines()
	if len(lines) != 1 || !strings.Contains(lines[0], "reason=max_things") {
		t.Errorf("logged %q, want the refusal", lines)
	}
	if r := b.Refusals(); len(r) != 1 || r[0].Suppressed != 1 || !strings.HasPrefix(r[0].Sample, `{"type": "thing_update", "ns": "over"`) {
		t.Errorf("remembered %+v", r)
	}
	// Restored ones are known however many there are.
	b.Know("restored.more")
	b.feed(fromZMQ, update("restored.more", "1"))
	b.one()
	if lines := b.log.lines(); len(lines) != 0 {
		t.Errorf("warned again: %q", lines)
	}
}

// Nobody is in the way of others by being refused, and nothing is left of a
// burst of which all is refused.
func TestAllRefused(t *testing.T) {
	b := newBench(t, Options{MaxThings: 1})
	b.Know("a")
	b.feed(fromZMQ, update("b", "1"))
	b.feed(fromZMQ, update("a", "2"))
	if got, want := b.one(), `"a" 2 null 5 from invalid IP/zmq`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
