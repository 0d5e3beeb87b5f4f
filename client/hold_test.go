package client

import (
	"errors"
	"slices"
	"testing"

	"tbhist/internal/wire"
)

// The hold never has more than its bound, lets go of all that comes beyond
// it until it is resumed, and counts what history does not have.
func TestHold(t *testing.T) {
	h := newHold(100)
	put := func(seqs ...uint64) {
		for _, seq := range seqs {
			h.put(held{update: update(seq)}, 10)
		}
	}
	taken := func() (seqs []uint64) {
		t.Helper()
		for {
			next, ok := h.peek()
			if !ok {
				return seqs
			}
			item, err := h.take(t.Context())
			if err != nil || item.update.Seq != next.update.Seq {
				t.Fatalf("took %+v, %v where %+v was next", item, err, next)
			}
			seqs = append(seqs, item.update.Seq)
		}
	}
	put(1, 2, 3, 4, 5)
	if _, ok := h.peek(); !ok { // the one half
		t.Fatal("nothing is held")
	}
	put(6, 0, 7, 8, 9, 10, 11, 0) // the other, and more
	h.put(held{heartbeat: &wire.Heartbeat{Epoch: "e1", SkippedFrom: 3, SkippedTo: 5, Skipped: 2}}, 10)
	h.put(held{heartbeat: &wire.Heartbeat{Epoch: "e2", SkippedFrom: 12, SkippedTo: 12, Skipped: 1}}, 10)
	if got := taken(); !slices.Equal(got, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("held are %v", got)
	}
	if item, err := h.take(t.Context()); err != nil || !item.dropped {
		t.Fatalf("took %+v, %v behind that", item, err)
	}
	null, kept := updateLine(0), updateLine(14)
	if h.passes(null) || !h.passes(kept) || h.passes(beat(1)) {
		t.Error("it is not updates that history has that pass")
	}
	put(12, 13)
	if gone := h.resume(); gone.unkept != 2 || gone.epoch != "e2" || gone.skipReport != (skipReport{3, 12, 3}) {
		t.Errorf("let go were %+v", gone)
	}
	if h.passes(kept) {
		t.Error("it lets go when it is resumed")
	}
	put(15)
	h.end(ErrLost)
	if got := taken(); !slices.Equal(got, []uint64{15}) {
		t.Errorf("held are %v", got)
	}
	if _, err := h.take(t.Context()); !errors.Is(err, ErrLost) || h.ended() == nil {
		t.Errorf("an ended hold gives %v", err)
	}
}
