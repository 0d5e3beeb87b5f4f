package publish

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// kinds writes messages down shortly: u3 is update 3, s3 a snapshot at 3,
// h3 a heartbeat for 3.
func kinds(msgs []wire.Message) string {
	var b strings.Builder
	for _, m := range msgs {
		switch m.Kind {
		case wire.KindUpdate:
			fmt.Fprintf(&b, "u%d ", m.Update.Seq)
		case wire.KindSnapshot:
			fmt.Fprintf(&b, "s%d ", m.Snapshot.Seq)
		case wire.KindHeartbeat:
			fmt.Fprintf(&b, "h%d ", m.Heartbeat.Seq)
		case wire.KindUnknown:
			b.WriteString("? ")
		}
	}
	return strings.TrimSpace(b.String())
}

func wantKinds(t testing.TB, s *served, want string) []wire.Message {
	t.Helper()
	msgs := s.take(len(strings.Fields(want)))
	if got := kinds(msgs); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	return msgs
}

func TestSnapshotAtOnce(t *testing.T) {
	for name, prefix := range map[string]string{
		"everything": "", "a prefix of it": `{"type": "thing_s`, "itself": wire.SnapshotPrefix, "longer": wire.SnapshotPrefix + `, "ts"`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.publish("a", "b", "a")
			s := r.serve(prefix)
			want, next := "s3", "u4"
			if prefix == "" {
				want = "s3 h3"
			}
			msgs := wantKinds(t, s, want)
			if e := msgs[0].Snapshot.Entries; len(e) != 2 || e[0].Update.Seq != 3 {
				t.Errorf("the snapshot lists %+v", e)
			}
			s.subscribe(everything)
			r.publish("a")
			wantKinds(t, s, next)
		})
	}
	t.Run("not for updates", func(t *testing.T) {
		r := newRig(t, Options{})
		s := r.serve(everything)
		r.publish("a")
		wantKinds(t, s, "u1")
		r.idle()
		s.none()
	})
	t.Run("empty", func(t *testing.T) {
		r := newRig(t, Options{})
		wantKinds(t, r.serve(wire.SnapshotPrefix), "s0")
	})
}

// The original's client subscribes to everything: one snapshot, then what
// follows it, whatever is published meanwhile.
func TestSnapshotThenNext(t *testing.T) {
	r := newRig(t, Options{})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				r.publish("a", "b")
			}
		}
	}()
	for range 20 {
		s := r.serve("")
		var last uint64
		snapshots := 0
		msgs := s.take(40)
		for _, m := range msgs {
			switch m.Kind {
			case wire.KindSnapshot:
				snapshots++
				if last != 0 && m.Snapshot.Seq != last {
					t.Fatalf("a snapshot at %d behind update %d", m.Snapshot.Seq, last)
				}
				last = m.Snapshot.Seq
			case wire.KindUpdate:
				if last != 0 && m.Update.Seq != last+1 {
					t.Fatalf("update %d behind %d", m.Update.Seq, last)
				}
				last = m.Update.Seq
			}
		}
		if snapshots != 1 {
			t.Fatalf("%d snapshots: %s", snapshots, kinds(msgs))
		}
		s.leave()
	}
	close(stop)
	<-done
}

// What is published while the first snapshot is made does not delay it: the
// peer cannot tell that it did not subscribe a moment later.
func TestSnapshotFirst(t *testing.T) {
	r := newRig(t, Options{})
	r.d.during(func() {
		for range 20 {
			r.publish("a")
		}
	}, nil)
	wantKinds(t, r.serve(""), "s20 h20")
	// One that was seen to have subscribed has a right to all since then.
	s := r.serve(everything)
	r.idle()
	r.pass(time.Minute)
	s.subscribe(wire.SnapshotPrefix)
	s.take(20)
	wantKinds(t, s, "s40")
}

// Many that come at once share one snapshot. Nobody gets one that lacks what
// was published before it came, nor one with an old ts.
func TestSnapshotShared(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("a", "b")
	wantKinds(t, r.serve(""), "s2 h2")
	r.pass(500 * time.Millisecond)
	r.publish("a")
	var late []*served
	for range 20 {
		late = append(late, r.serve(""))
	}
	for _, s := range late {
		wantKinds(t, s, "s3 h3")
	}
	if made := r.d.snapshotsMade(); made != 2 {
		t.Errorf("%d snapshots were made for two groups of subscribers", made)
	}
	r.pass(snapshotFresh + 1)
	at := thing.MicrosOf(r.clockNow())
	if m := wantKinds(t, r.serve(""), "s3 h3")[0]; m.Snapshot.TS != at {
		t.Errorf("a snapshot with ts %d at %d", m.Snapshot.TS, at)
	}
}

// Those that came while one was being made, or before what is published
// since, go on from it.
func TestSnapshotOfAMomentAgo(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("a")
	var late []*served
	r.d.during(nil, func() {
		for range 20 {
			late = append(late, r.serve(""))
		}
		r.publish("a")
	})
	wantKinds(t, r.serve(""), "s1 h1 u2")
	for _, s := range late {
		wantKinds(t, s, "s1 h1 u2")
	}
	if made := r.d.snapshotsMade(); made != 1 {
		t.Errorf("%d snapshots were made for 21 subscribers", made)
	}
}

// When the window does not reach back to the newest one, another is made.
func TestSnapshotBehindWindow(t *testing.T) {
	r := newRig(t, small())
	r.publish("a", "b")
	wantKinds(t, r.serve(wire.SnapshotPrefix), "s2")
	fallOut(r, 300, "a")
	wantKinds(t, r.serve(wire.SnapshotPrefix), "s302")
}

// A snapshot may have a batch that is not published yet.
func TestSnapshotAheadOfWindow(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("a")
	r.pipe.Lock()
	b := r.batch("a", "b")
	r.h.keep(b)
	r.d.apply(b, r.NextPosition())
	s := r.serve("")
	r.until("a snapshot", func() bool { return r.snaps.newest != nil })
	r.Publish(b)
	r.pipe.Unlock()
	r.publish("c")
	got := kinds(s.take(5))
	// The heartbeat has a place of its own.
	if got := strings.Replace(got, "h1 ", "", 1); got != "u2 u3 s3 u4" {
		t.Errorf("got %s", got)
	}
}

func TestSnapshotForFilteredAheadOfWindow(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("a")
	r.pipe.Lock()
	b := r.batch("b")
	r.h.keep(b)
	r.d.apply(b, r.NextPosition())
	s := r.serve(updateHead+`a"`, wire.SnapshotPrefix)
	r.until("a snapshot", func() bool { return r.snaps.newest != nil })
	r.Publish(b) // not for it, but now is the time of the snapshot
	r.pipe.Unlock()
	wantKinds(t, s, "s2")
}

// until waits for a condition under the publisher's lock. It is met by what
// other goroutines do, and costs a turn of theirs at each look.
func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(enough)
	for time.Now().Before(deadline) {
		r.Publisher.mu.Lock()
		ok := cond()
		r.Publisher.mu.Unlock()
		if ok {
			return
		}
		yieldTurn()
	}
	r.t.Fatalf("waited in vain: %s", what)
}

func TestPeriodicSnapshot(t *testing.T) {
	r := newRig(t, Options{})
	r.snapshotAll()
	if made := r.d.snapshotsMade(); made != 0 {
		t.Errorf("%d snapshots were made for nobody", made)
	}
	all, one := r.serve("", wire.SnapshotPrefix), r.serve(updateHead+`a"`, wire.SnapshotPrefix)
	plain := r.serve(everything)
	wantKinds(t, all, "s0 h0")
	wantKinds(t, one, "s0")
	r.pass(time.Minute)
	r.snapshotAll() // also when empty, and nothing has changed
	wantKinds(t, all, "s0")
	wantKinds(t, one, "s0")
	r.publish("a", "b")
	r.snapshotAll()
	r.publish("b", "a")
	wantKinds(t, all, "u1 u2 s2 u3 u4")
	wantKinds(t, one, "u1 s2 u4")
	wantKinds(t, plain, "u1 u2 u3 u4")
	r.idle()
	for _, s := range []*served{all, one, plain} {
		s.none()
	}
	if made := r.d.snapshotsMade(); made != 3 {
		t.Errorf("%d snapshots were made, want 3", made)
	}
}

// While the snapshot of a turn is being made, nobody passes its place: all
// share it, however much is published.
func TestPeriodicSnapshotIsShared(t *testing.T) {
	r := newRig(t, Options{})
	var subs []*served
	for range 10 {
		subs = append(subs, r.serve(everything, wire.SnapshotPrefix), r.serve(updateHead+`a"`, wire.SnapshotPrefix))
	}
	idle := r.serve(updateHead+`zoo"`, wire.SnapshotPrefix)
	for _, s := range append(subs, idle) {
		wantKinds(t, s, "s0")
	}
	r.idle()
	r.pass(time.Minute)
	before := r.d.snapshotsMade()
	r.d.during(nil, func() {
		for range 20 {
			r.publish("a", "b")
		}
		r.Publisher.mu.Lock()
		for s := range r.subs { // as one that was writing would come back
			s.poke()
		}
		r.Publisher.mu.Unlock()
		for range 1000 {
			yieldTurn()
		}
	})
	r.snapshotAll()
	r.d.during(nil, nil)
	r.publish("a")
	for i, s := range subs {
		n, snapshots := 41, 0
		if i%2 == 1 {
			n = 21
		}
		for _, m := range s.take(n + 1) {
			if m.Kind == wire.KindSnapshot {
				snapshots++
			}
		}
		if snapshots != 1 {
			t.Errorf("subscriber %d got %d snapshots", i, snapshots)
		}
	}
	if m := idle.take(1)[0]; m.Snapshot.Seq != 0 {
		t.Errorf("one for whom there was nothing got the snapshot at %d", m.Snapshot.Seq)
	}
	if made := r.d.snapshotsMade() - before; made != 1 {
		t.Errorf("%d snapshots were made", made)
	}
}

// One that is behind gets the snapshot when it has caught up, and never
// ahead of older updates.
func TestPeriodicSnapshotOfOneBehind(t *testing.T) {
	for name, o := range map[string]Options{"in the window": {}, "in history": small()} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, o)
			s := r.serve(everything, wire.SnapshotPrefix)
			wantKinds(t, s, "s0")
			s.open(false)
			r.publish("a")
			s.untilStuck()
			fallOut(r, 300, "a")
			r.snapshotAll()
			fallOut(r, 300, "a")
			s.open(true)
			r.idle()
			var last uint64
			snapshots := 0
			for _, m := range s.take(602) {
				if m.Kind == wire.KindSnapshot {
					if snapshots++; m.Snapshot.Seq != last {
						t.Errorf("a snapshot at %d behind update %d", m.Snapshot.Seq, last)
					}
					continue
				}
				if last++; m.Update.Seq != last {
					t.Fatalf("update %d, want %d", m.Update.Seq, last)
				}
			}
			if snapshots != 1 {
				t.Errorf("%d snapshots", snapshots)
			}
			s.none()
		})
	}
}

func TestSnapshotAgainAfterUnsubscribe(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(wire.SnapshotPrefix)
	wantKinds(t, s, "s0")
	s.subscribe(`{"type": "thing_`) // also fits, but brings none
	r.idle()
	wantKinds(t, s, "h0")
	s.none()
	for range 5 {
		s.cancel(wire.SnapshotPrefix)
		s.subscribe(wire.SnapshotPrefix)
	}
	r.idle()
	s.none() // at most one a second
	r.pass(999 * time.Millisecond)
	r.idle()
	s.none()
	r.pass(time.Millisecond)
	wantKinds(t, s, "s0")
	r.pass(time.Minute)
	r.idle()
	s.none()
	s.cancel(wire.SnapshotPrefix)
	s.subscribe(wire.SnapshotPrefix)
	wantKinds(t, s, "s0")
}

// One that was sent updates does not go back to an older snapshot.
func TestSnapshotAfterUpdates(t *testing.T) {
	r := newRig(t, Options{})
	wantKinds(t, r.serve(wire.SnapshotPrefix), "s0")
	s := r.serve(everything)
	r.publish("a", "b")
	wantKinds(t, s, "u1 u2")
	s.subscribe(wire.SnapshotPrefix)
	r.publish("a")
	got := kinds(s.take(2))
	if got != "s2 u3" && got != "u3 s3" {
		t.Errorf("got %s", got)
	}
}

func TestSnapshotInParts(t *testing.T) {
	r := newRig(t, Options{})
	r.pipe.Lock()
	var names []thing.Name
	for i := range 40 {
		names = append(names, thing.Name(fmt.Sprintf("t%d", i)))
	}
	b := r.batch(names...)
	for i := range b {
		b[i].Data = []byte(`"` + strings.Repeat("x", 100<<10) + `"`)
	}
	r.h.keep(b)
	r.d.apply(b, r.NextPosition())
	r.Publish(b)
	r.pipe.Unlock()
	s := r.serve(wire.SnapshotPrefix)
	first := s.take(1)[0].Snapshot
	entries := len(first.Entries)
	for _, m := range s.take(first.Parts - 1) {
		entries += len(m.Snapshot.Entries)
	}
	if first.Parts < 4 || entries != 40 {
		t.Errorf("%d parts with %d entries", first.Parts, entries)
	}
}

// Snapshots that slow subscribers hold on to do not pile up.
func TestHeldSnapshots(t *testing.T) {
	slow := func(r *rig) *subscriber {
		c := newFakeConn(r.t)
		return &subscriber{p: r.Publisher, conn: c}
	}
	r := newRig(t, Options{})
	var p snapshots
	var subs []*subscriber
	var late []*subscriber
	for i := range 10 {
		old := p.newest
		p.newest = &snapshot{bytes: 5 << 20, writers: map[*subscriber]struct{}{}}
		late = append(late, p.retire(old)...)
		if i%2 == 0 { // every other one is still being sent
			s := slow(r)
			subs = append(subs, s)
			p.newest.writers[s] = struct{}{}
		}
	}
	if len(late) != 0 || len(p.held) != 5 {
		t.Fatalf("%d cut off, %d held", len(late), len(p.held))
	}
	for range 2 {
		old := p.newest
		p.newest = &snapshot{bytes: 5 << 20, writers: map[*subscriber]struct{}{slow(r): {}}}
		late = append(late, p.retire(old)...)
	}
	if len(late) != 0 || len(p.held) != 6 {
		t.Fatalf("%d cut off, %d held: 30 MiB are within the bound", len(late), len(p.held))
	}
	p.retire(p.newest)
	late = p.retire(nil)
	_ = late
	if len(p.held) != 6 || p.held[0].writers == nil {
		t.Errorf("%d held", len(p.held))
	}
	if _, held := p.held[0].writers[subs[0]]; held {
		t.Error("the oldest is still held")
	}
}
