package publish

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// small makes the window so small that whoever is not quick falls out.
func small() Options { return Options{WindowBytes: 4 << 10} }

// fallOut publishes until the oldest chunks have left the window.
func fallOut(r *rig, batches int, names ...thing.Name) {
	for range batches {
		r.publish(names...)
	}
}

func TestSlowSubscriberLosesNothing(t *testing.T) {
	r := newRig(t, small())
	s := r.serve(everything)
	quick := r.serve(everything)
	s.open(false)
	fallOut(r, 2000, "a", "b", "a.b")
	wantSeqs(t, quick.take(6000), 1, 6000) // the slow one holds nobody up
	s.untilStuck()
	if w := &r.window; w.bytes > 2*w.max {
		t.Errorf("the window holds %d bytes, %d are its bound", w.bytes, w.max)
	}
	s.open(true)
	wantSeqs(t, s.take(6000), 1, 6000)
	r.publish("a")
	wantSeqs(t, s.take(1), 6001, 6001)
	if got := r.value(r.o.Metrics.FromHistory); got < 5000 {
		t.Errorf("%d came from history", got)
	}
	if got := r.value(r.o.Metrics.Skipped); got != 0 {
		t.Errorf("%d were skipped", got)
	}
	r.idle()
	if got := r.value(r.o.Metrics.Delivered); got != 12002 {
		t.Errorf("%d were delivered, want 12002", got)
	}
}

// When others hold many pages, one's own are tiny, and nothing is lost. What
// was booked is given back.
func TestManyPagesHeld(t *testing.T) {
	r := newRig(t, small())
	r.pages.Store(manyPages - leastPage)
	if a, b := r.pageRoom(leastPage), r.pageRoom(leastPage); a != leastPage || b != tinyPage {
		t.Errorf("room for %d bytes, then %d", a, b)
	}
	r.pages.Store(manyPages)
	s := r.serve(everything)
	s.open(false)
	fallOut(r, 2000, "a", "b", "a.b")
	s.untilStuck()
	if got := r.pages.Load(); got > manyPages+tinyPage {
		t.Errorf("a subscriber that is stuck holds %d bytes", got-manyPages)
	}
	s.open(true)
	wantSeqs(t, s.take(6000), 1, 6000)
	r.idle()
	if got := r.pages.Load(); got != manyPages {
		t.Errorf("%d bytes are still held", got-manyPages)
	}
}

func TestSlowSubscriberFiltered(t *testing.T) {
	for name, prefixes := range map[string][]string{
		"one":     {updateHead + `a.b"`},
		"tree":    {updateHead + `a"`, updateHead + `a.`},
		"in name": {updateHead + `a`},
		"in data": {updateHead + `a.b", "data": {"n":1`, updateHead + `b", "data": {"n":2`},
		"once":    {updateHead + `z"`},
		"mixed":   {updateHead + `z"`, updateHead + `c"`, updateHead + `a.b", "data": {"n":3`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, small())
			s := r.serve(prefixes...)
			s.open(false)
			r.publish("a", "b", "a.b", "z")
			fallOut(r, 1000, "a", "b", "a.b", "c")
			s.untilStuck()
			s.open(true)
			r.idle()
			m := newMatcher(bytesOf(prefixes))
			var want []uint64
			for i := range r.h.all {
				if m.update(wire.AppendUpdate(nil, &r.h.all[i])) {
					want = append(want, r.h.all[i].Seq)
				}
			}
			if got := seqs(s.take(len(want))); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %d… of %d, want %d…", got[:min(9, len(got))], len(got), want[:min(9, len(want))])
			}
			s.none()
			if name != "once" && r.value(r.o.Metrics.FromHistory) == 0 {
				t.Error("nothing came from history: the test shows nothing")
			}
		})
	}
}

func bytesOf(set []string) (b [][]byte) {
	for _, s := range set {
		b = append(b, []byte(s))
	}
	return b
}

func TestMaxLag(t *testing.T) {
	o := small()
	o.MaxLag = time.Minute
	for name, prefix := range map[string]string{"all": everything, "one Thing": updateHead + `a"`, "in data": updateHead + `a", "data": {"n":`} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, o)
			s := r.serve(prefix, wire.HeartbeatPrefix)
			s.take(1)
			s.open(false)
			r.publish("a")
			s.untilStuck()
			fallOut(r, 499, "a", "b") // seq 2 to 999
			r.pass(time.Minute + time.Second)
			fallOut(r, 10, "a", "b") // to 1019
			head := uint64(len(r.h.all))
			s.open(true)
			wantSeqs(t, s.take(1), 1, 1)
			want := 509
			if prefix == everything {
				want = 1018
			}
			m := s.take(1)[0]
			if h := m.Heartbeat; m.Kind != wire.KindHeartbeat || h.Seq != head || h.SkippedFrom != 2 || h.SkippedTo != head || h.Skipped != uint64(want) {
				t.Fatalf("after the skip: %+v, want %d skipped to %d", h, want, head)
			}
			if got := r.value(r.o.Metrics.Skipped); got != want {
				t.Errorf("counted %d, want %d", got, want)
			}
			r.publish("a")
			wantSeqs(t, s.take(1), head+1, head+1)
			r.beat()
			if h := s.take(1)[0].Heartbeat; h.Skipped != 0 || h.SkippedTo != 0 {
				t.Errorf("the next heartbeat tells again: %+v", h)
			}
		})
	}
}

// In the window, too, what is older than the greatest lag is passed over.
func TestMaxLagInsideWindow(t *testing.T) {
	r := newRig(t, Options{MaxLag: time.Minute})
	s := r.serve(everything, wire.HeartbeatPrefix)
	s.take(1)
	s.open(false)
	r.publish("a")
	s.untilStuck()
	r.publish("a", "b")
	r.publishUnkept("a", "a", "a")
	r.pass(time.Minute + time.Second)
	s.open(true)
	wantSeqs(t, s.take(1), 1, 1)
	if h := s.take(1)[0].Heartbeat; h.Skipped != 5 || h.SkippedFrom != 2 || h.SkippedTo != 3 {
		t.Errorf("%+v, want two kept and three unkept", h)
	}
}

// What was held back by a slow disk is no lag of the subscriber's.
func TestNoLagOfOneCaughtUp(t *testing.T) {
	r := newRig(t, Options{MaxLag: time.Minute})
	s := r.serve(everything)
	r.idle()
	r.pipe.Lock()
	b := r.batch("a", "b")
	r.pass(time.Hour)
	r.h.keep(b)
	r.d.apply(b, r.NextPosition())
	r.Publish(b)
	r.pipe.Unlock()
	wantSeqs(t, s.take(2), 1, 2)
}

func TestEvictedBeforeRead(t *testing.T) {
	r := newRig(t, small())
	r.h.ring = 100
	s := r.serve(updateHead+`a"`, wire.HeartbeatPrefix)
	s.take(1)
	s.open(false)
	r.publish("a")
	s.untilStuck()
	fallOut(r, 1000, "a", "b")
	s.open(true)
	got := s.take(1)
	wantSeqs(t, got, 1, 1)
	// 1001 of a, one was sent, 100 are kept: what is in the window comes
	// from there, evicted or not.
	skipped, updates := uint64(0), 0
	for skipped+uint64(updates) < 1000 {
		switch m := s.take(1)[0]; m.Kind {
		case wire.KindHeartbeat:
			skipped += m.Heartbeat.Skipped
		case wire.KindUpdate:
			updates++
		}
	}
	if skipped != 900 || updates != 100 {
		t.Errorf("%d skipped and %d sent, want 900 and 100", skipped, updates)
	}
	if got := r.value(r.o.Metrics.Skipped); got != 900 {
		t.Errorf("counted %d", got)
	}
}

// Updates that were not kept are lost to one that is behind, and counted.
func TestUnkeptOutsideWindow(t *testing.T) {
	r := newRig(t, small())
	s := r.serve(updateHead+`a"`, wire.HeartbeatPrefix)
	s.take(1)
	s.open(false)
	r.publish("a")
	s.untilStuck()
	fallOut(r, 10, "a", "b")
	for range 7 {
		r.publishUnkept("a", "a", "b")
	}
	fallOut(r, 300, "a", "b")
	s.open(true)
	updates, skipped := s.take(1), uint64(0)
	for len(updates) < 311 {
		if m := s.take(1)[0]; m.Kind == wire.KindHeartbeat {
			skipped += m.Heartbeat.Skipped
		} else {
			updates = append(updates, m)
		}
	}
	for i, m := range updates {
		if m.Update.ThingSeq != uint64(i+1) {
			t.Fatalf("update %d has thing_seq %d", i, m.Update.ThingSeq)
		}
	}
	r.idle()
	r.beat()
	for skipped < 14 {
		skipped += s.take(1)[0].Heartbeat.Skipped
	}
	if got := r.value(r.o.Metrics.Skipped); got != 14 || skipped != 14 {
		t.Errorf("counted %d, told %d, want 14", got, skipped)
	}
}

// Unkept updates that are still in the window are sent, in their place, by
// one that comes back from history.
func TestUnkeptInsideWindow(t *testing.T) {
	r := newRig(t, small())
	s := r.serve(everything)
	s.open(false)
	r.publish("a")
	s.untilStuck()
	fallOut(r, 300, "a")
	r.publishUnkept("a", "a")
	r.publish("a")
	s.open(true)
	got := seqs(s.take(304))
	for i, seq := range got[:301] {
		if seq != uint64(i+1) {
			t.Fatalf("seq %d at %d", seq, i)
		}
	}
	if fmt.Sprint(got[301:]) != "[0 0 302]" {
		t.Errorf("the end is %v", got[301:])
	}
}

func TestHistoryThatCannotBeRead(t *testing.T) {
	r := newRig(t, small())
	s := r.serve(everything, wire.HeartbeatPrefix)
	s.take(1)
	s.open(false)
	r.publish("a")
	s.untilStuck()
	fallOut(r, 300, "a")
	r.h.set(func(h *fakeHistory) { h.readErr = errors.New("damaged") })
	s.open(true)
	s.take(1)
	if h := s.take(1)[0].Heartbeat; h.Skipped != 300 || h.SkippedFrom != 2 || h.SkippedTo != 301 {
		t.Errorf("%+v", h)
	}
	r.publish("a")
	wantSeqs(t, s.take(1), 302, 302)
}

// Subscribing to more while reading history: the new ones come from where
// it stands, in one order.
func TestSubscribeWhileBehind(t *testing.T) {
	r := newRig(t, small())
	s := r.serve(updateHead + `a"`)
	s.open(false)
	r.publish("a")
	s.untilStuck()
	fallOut(r, 2000, "a", "b")
	s.subscribe(updateHead + `b"`)
	s.open(true)
	r.idle()
	wantSeqs(t, s.take(4001), 1, 4001)
}

// One that comes back into the window in the middle of what it asked history
// for, and falls out again.
func TestFallOutAgain(t *testing.T) {
	for name, prefix := range map[string]string{"all": everything, "one Thing": updateHead + `a"`} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{WindowBytes: 400 << 10})
			s := r.serve(prefix)
			s.open(false)
			want, unkept := uint64(0), 0
			for round := range 30 {
				for i := range 30 {
					r.pipe.Lock()
					b := r.batch("a", "a", "a")
					for k := range b {
						b[k].Data = []byte(`"` + strings.Repeat("x", 6000) + `"`)
					}
					if round == 20 && i < 3 {
						unkept += len(b)
					} else {
						r.h.keep(b)
						want += 3
					}
					r.d.apply(b, r.NextPosition())
					r.Publish(b)
					r.pipe.Unlock()
				}
				s.allow(1 + round%7)
			}
			s.open(true)
			r.idle()
			last, seen := uint64(0), 0
			for last < want {
				if m := s.take(1)[0]; m.Update.Seq == 0 {
					seen++
				} else if last++; m.Update.Seq != last {
					t.Fatalf("seq %d, want %d", m.Update.Seq, last)
				}
			}
			if skipped := r.value(r.o.Metrics.Skipped); seen+skipped != unkept {
				t.Errorf("of %d unkept, %d were sent and %d counted", unkept, seen, skipped)
			}
			s.none()
		})
	}
}

// Subscribers that stop and go while updates come without a pause: each
// gets each update once, in order, wherever it comes from.
func TestHandOver(t *testing.T) {
	r := newRig(t, Options{WindowBytes: 16 << 10})
	const subscribers, batches = 8, 1500
	names := []thing.Name{"a", "b", "a.b", "c"}
	var subs []*served
	for i := range subscribers {
		if i%2 == 0 {
			subs = append(subs, r.serve(everything))
		} else {
			subs = append(subs, r.serve(updateHead+`a"`, updateHead+`a.`))
		}
	}
	var wg sync.WaitGroup
	for i, s := range subs {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 3))
			for range 60 {
				s.open(false)
				for range rnd.IntN(30) {
					r.publish(names[rnd.IntN(len(names))])
				}
				s.open(true)
			}
		})
	}
	for i := range batches {
		r.publish(names[:1+i%4]...)
	}
	wg.Wait()
	r.idle()
	var all, tree []uint64
	for _, u := range r.h.all {
		all = append(all, u.Seq)
		if u.Name.Under("a") {
			tree = append(tree, u.Seq)
		}
	}
	for i, s := range subs {
		want := all
		if i%2 == 1 {
			want = tree
		}
		got := seqs(s.take(len(want)))
		for j := range want {
			if got[j] != want[j] {
				t.Fatalf("subscriber %d: message %d has seq %d, want %d", i, j, got[j], want[j])
			}
		}
		s.none()
	}
	t.Logf("%d of %d delivered from history", r.value(r.o.Metrics.FromHistory), r.value(r.o.Metrics.Delivered))
	if r.value(r.o.Metrics.FromHistory) == 0 {
		t.Error("nothing came from history: the test shows nothing")
	}
}
