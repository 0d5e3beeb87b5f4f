package thing_test

import (
	"testing"

	"tbhist/thing"
)

func TestSlots(t *testing.T) {
	var s thing.Slots[int]
	one, two := 1, 2
	update := func(name thing.Name, slot uint32) *thing.Update { return &thing.Update{Name: name, Slot: slot} }
	holds := func(u *thing.Update, want *int) {
		t.Helper()
		if got := s.Get(u); got != want {
			t.Errorf("for %q in slot %d: %v, want %v", u.Name, u.Slot, got, want)
		}
	}
	holds(update("a", 0), nil)
	holds(update("a", 7), nil)
	s.Put(update("", 0), &one) // no slot: not put in
	holds(update("", 0), nil)
	s.Put(update("a", 7), &one)
	holds(update("a", 7), &one)
	holds(update("a", 6), nil)
	holds(update("b", 7), nil) // the name counts
	s.Put(update("b", 7), &two)
	holds(update("b", 7), &two)
	holds(update("a", 7), nil)
	s.Put(update("", 1), &two) // the root Thing
	holds(update("", 1), &two)
	s.Put(update("c", 3), nil)
	holds(update("c", 3), nil)
}
