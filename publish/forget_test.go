package publish

import (
	"testing"
	"time"

	"tbhist/internal/wire"
)

// A snapshot from before Things were forgotten is sent to nobody, neither one
// of a moment ago nor one that was being made.
func TestSnapshotAfterForgotten(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("a")
	r.Forgotten() // there is none yet
	wantKinds(t, r.serve(""), "s1 h1")
	r.pass(10 * time.Millisecond)
	wantKinds(t, r.serve(""), "s1 h1")
	made := r.d.snapshotsMade()
	if made != 1 {
		t.Errorf("%d snapshots were made", made)
	}
	r.Forgotten()
	wantKinds(t, r.serve(""), "s1 h1")
	if n := r.d.snapshotsMade(); n != made+1 {
		t.Errorf("%d snapshots were made, want %d", n, made+1)
	}
	again := 0
	r.d.during(nil, func() {
		if again++; again == 1 {
			r.Forgotten()
		}
	})
	r.pass(time.Minute)
	one := r.serve(wire.SnapshotPrefix)
	wantKinds(t, one, "s1")
	r.idle()
	one.none()
	if n := r.d.snapshotsMade(); n != made+3 {
		t.Errorf("%d snapshots were made, want %d", n, made+3)
	}
	r.d.during(nil, nil)
	r.Forgotten()
	r.pass(time.Minute)
	r.snapshotAll()
	wantKinds(t, one, "s1")
}
