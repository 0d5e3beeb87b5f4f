package publish

import (
	"math/rand/v2"
	"testing"
	"time"

	"tbhist/internal/wire"
)

// steps are what clocks were seen to do.
var steps = map[string]func(time.Time) time.Time{
	"ten years on":   func(t time.Time) time.Time { return t.AddDate(10, 0, 0) },
	"ten years back": func(t time.Time) time.Time { return t.AddDate(-10, 0, 0) },
	"to 1970":        func(time.Time) time.Time { return time.Unix(5, 0) },
	"hours on":       func(t time.Time) time.Time { return t.Add(2 * time.Hour) }, // local time as that of the epoch
}

// Whoever is behind, and has been for longer than the greatest lag, but not
// by as much, loses nothing when the clock is set.
func TestClockStepSkipsNobody(t *testing.T) {
	for name, step := range steps {
		for where, o := range map[string]Options{"outside the window": small(), "inside": {}} {
			t.Run(name+", "+where, func(t *testing.T) {
				o.MaxLag = time.Minute
				r := newRig(t, o)
				s := r.serve(everything)
				s.open(false)
				r.publish("a")
				s.untilStuck()
				r.pass(50 * time.Second)
				fallOut(r, 250, "a", "b") // seq 2 to 501
				r.pass(20 * time.Second)
				r.set(step(r.clockWall()))
				if lag := r.lag(); lag < 0 || lag > 70 {
					t.Errorf("it is %v s behind", lag)
				}
				fallOut(r, 250, "a", "b")
				s.open(true)
				wantSeqs(t, s.take(1001), 1, 1001)
				if n := r.value(r.o.Metrics.Skipped); n != 0 {
					t.Errorf("%d were skipped", n)
				}
				r.idle()
				if lag := r.lag(); lag != 0 {
					t.Errorf("it is %v s behind, having everything", lag)
				}
			})
		}
	}
}

// A clock that was set hides no subscriber that is too far behind.
func TestClockStepStillBounds(t *testing.T) {
	o := small()
	o.MaxLag = time.Minute
	r := newRig(t, o)
	s := r.serve(everything, wire.HeartbeatPrefix)
	s.take(1)
	s.open(false)
	r.publish("a")
	s.untilStuck()
	fallOut(r, 200, "a", "b")
	r.set(r.clockWall().AddDate(10, 0, 0))
	r.pass(time.Minute + 2*time.Minute/pastParts)
	fallOut(r, 10, "a", "b")
	s.open(true)
	wantSeqs(t, s.take(1), 1, 1)
	if h := s.take(1)[0].Heartbeat; h.SkippedFrom != 2 || h.SkippedTo != 421 || h.Skipped != 420 {
		t.Errorf("%+v, want seq 2 to 421 skipped", h)
	}
}

// Heartbeats and snapshots do not wait for a time of day, and show it.
func TestClockStepBeatsGoOn(t *testing.T) {
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.publish("a")
			old := r.serve(wire.SnapshotPrefix, wire.HeartbeatPrefix)
			old.take(2)
			r.set(step(r.clockWall()))
			ts := float64(r.clockWall().Unix())
			r.beat()
			if m := old.take(1)[0]; m.Kind != wire.KindHeartbeat || m.Heartbeat.Seq != 1 || m.Heartbeat.TS.Seconds() != ts {
				t.Errorf("%+v, want a heartbeat of %v", m, ts)
			}
			r.snapshotAll()
			if m := old.take(1)[0]; m.Kind != wire.KindSnapshot || m.Snapshot.TS.Seconds() != ts || len(m.Snapshot.Entries) != 1 {
				t.Errorf("%+v, want a snapshot of %v", m, ts)
			}
			r.pass(time.Minute) // the newest one is too old to be sent again
			fresh := r.serve(wire.SnapshotPrefix)
			if m := fresh.take(1)[0]; m.Kind != wire.KindSnapshot || m.Snapshot.TS.Seconds() != ts+60 {
				t.Errorf("%+v, want a snapshot of %v", m, ts+60)
			}
		})
	}
}

// What past tells of is never younger than lag, nor much older, and takes no
// room for it.
func TestPast(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	p := past{lag: time.Minute}
	now := time.Unix(0, 0)
	var heads []span // one of each batch
	newest := func(age time.Duration) (seq uint64) {
		for _, s := range heads {
			if now.Sub(s.end) >= age {
				seq = s.head
			}
		}
		return seq
	}
	for seq := uint64(1); seq < 3000; seq++ {
		pause := 200 * time.Millisecond
		if rnd.IntN(300) == 0 {
			pause = 5 * time.Minute
		}
		now = now.Add(time.Duration(rnd.Int64N(int64(pause))))
		heads = append(heads, span{end: now, head: seq})
		p.note(now, seq)
		got, most, least := p.head(now), newest(p.lag), newest(p.lag+p.lag/pastParts)
		if got > most || got < least {
			t.Fatalf("at %v seq %d is said to be old enough, want %d to %d", now, got, least, most)
		}
		if len(p.spans) > pastParts+2 {
			t.Fatalf("%d spans are kept", len(p.spans))
		}
	}
	none := past{lag: -1}
	none.note(now, 1)
	if len(none.spans) != 0 {
		t.Error("a past that nobody asks for is kept")
	}
}
