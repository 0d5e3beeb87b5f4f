package publish

import (
	"math/rand/v2"
	"testing"

	"tbhist/thing"
)

// The places in the window are those that a look at every message finds.
func TestWindowPlaces(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 4))
	for range 200 {
		head, batch := uint64(rnd.IntN(3)), uint64(0)
		w := newWindow(2000, head)
		var e encoder
		var gone, held []*chunk
		for range rnd.IntN(60) {
			batch++
			updates := make([]thing.Update, rnd.IntN(4))
			kept := rnd.IntN(4) > 0
			for i := range updates {
				updates[i] = thing.Update{Name: "a", Data: []byte("5")}
				if kept {
					head++
					updates[i].Seq, updates[i].ThingSeq = head, head
				}
			}
			for _, c := range e.encode(updates, batch, w.head) {
				w.push(c)
				held = append(held, c)
			}
			w.batch = batch
			for c := w.evict(); c != nil; c = w.evict() {
				if c != held[0] {
					t.Fatal("another chunk than the oldest was evicted")
				}
				gone, held = append(gone, c), held[1:]
			}
		}
		if w.head != head || int(w.next-w.first) != len(held) {
			t.Fatalf("head %d, want %d; %d chunks, want %d", w.head, head, w.next-w.first, len(held))
		}
		for i, c := range held {
			if w.at(w.first+uint64(i)) != c {
				t.Fatalf("chunk %d is another", i)
			}
		}
		checkAfterSeq(t, &w, held, gone)
		checkAfterBatch(t, &w, held, gone)
		checkTarget(t, &w, held)
	}
}

func checkAfterSeq(t *testing.T, w *window, held, gone []*chunk) {
	t.Helper()
	for seq := uint64(0); seq <= w.head; seq++ {
		for unseen := uint64(1); unseen <= w.next; unseen++ {
			// The first message that is unseen: kept and behind seq, or
			// unkept, not before seq, and in a chunk not seen.
			wantOrd, wantIdx, wantOK := w.next, 0, true
			for _, c := range gone {
				if c.kept() && c.last > seq {
					wantOK = false
				}
			}
			for _, c := range held {
				if c.ord < unseen || c.kept() && c.last <= seq || !c.kept() && c.base < seq {
					continue
				}
				wantOrd = c.ord
				if c.kept() {
					wantIdx = int(max(seq, c.base) - c.base)
				}
				break
			}
			if len(held) > 0 && held[0].base > seq {
				wantOK = false
			}
			ord, idx, ok := w.afterSeq(seq, unseen)
			if ok != wantOK || ok && (ord != wantOrd || idx != wantIdx) {
				t.Fatalf("after seq %d, unseen from %d: %d, %d, %v, want %d, %d, %v", seq, unseen, ord, idx, ok, wantOrd, wantIdx, wantOK)
			}
		}
	}
}

func checkAfterBatch(t *testing.T, w *window, held, gone []*chunk) {
	t.Helper()
	for position := uint64(0); position <= w.batch; position++ {
		want, wantOK := w.next, true
		for _, c := range gone {
			wantOK = wantOK && c.batch <= position
		}
		for i := len(held) - 1; i >= 0; i-- {
			if held[i].batch > position {
				want = held[i].ord
			}
		}
		if ord, ok := w.afterBatch(position); ok != wantOK || ok && ord != want {
			t.Fatalf("after batch %d: %d, %v, want %d, %v", position, ord, ok, want, wantOK)
		}
	}
}

func checkTarget(t *testing.T, w *window, held []*chunk) {
	t.Helper()
	if len(held) == 0 {
		return
	}
	for unseen := uint64(1); unseen <= w.next; unseen++ {
		target := w.target(unseen)
		for _, c := range held {
			if !c.kept() && c.ord >= unseen && c.base < target {
				t.Fatalf("reading up to %d passes over unkept updates at %d", target, c.base)
			}
		}
		if target < held[0].base {
			t.Fatalf("reading up to %d does not come to the window, which begins at %d", target, held[0].base)
		}
	}
}

// One that has passed a part of a batch has passed it, for a snapshot.
func TestPassed(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("a", "b")
	r.publish("a", "b")
	for _, c := range []struct {
		next uint64
		idx  int
		want uint64
	}{{1, 0, 0}, {1, 1, 1}, {2, 0, 1}, {2, 1, 2}, {3, 0, 2}} {
		if got := r.passed(&subscriber{next: c.next, idx: c.idx}); got != c.want {
			t.Errorf("at chunk %d, message %d: passed batch %d, want %d", c.next, c.idx, got, c.want)
		}
	}
}

func TestEncodeCutsChunks(t *testing.T) {
	big := make([]byte, 40<<10)
	update := func(seq uint64, data []byte) thing.Update { return thing.Update{Name: "a", Data: data, Seq: seq} }
	var e encoder
	chunks := e.encode([]thing.Update{
		update(6, big), update(7, big), update(8, nil), // too much for one
		update(0, nil), update(0, nil), // unkept by themselves
		update(9, nil), update(11, nil), // a gap begins another
	}, 3, 5)
	want := []struct {
		base, last uint64
		n          int
	}{{5, 6, 1}, {6, 8, 2}, {8, 8, 2}, {8, 9, 1}, {10, 11, 1}}
	if len(chunks) != len(want) {
		t.Fatalf("%d chunks, want %d", len(chunks), len(want))
	}
	for i, c := range chunks {
		if w := want[i]; c.base != w.base || c.last != w.last || len(c.msgs) != w.n || c.batch != 3 {
			t.Errorf("chunk %d is %d to %d with %d messages", i, c.base, c.last, len(c.msgs))
		}
	}
}
