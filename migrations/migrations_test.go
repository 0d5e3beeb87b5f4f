package migrations

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/bbolt"

	"tbhist/store"
)

func TestCheckCurrent(t *testing.T) {
	if err := Check(Current); err != nil {
		t.Errorf("Check(%d): %v", Current, err)
	}
	path, err := Steps(Current)
	if err != nil || len(path) != 0 {
		t.Errorf("Steps(%d) = %v, %v; want none", Current, path, err)
	}
}

func TestCheckNewer(t *testing.T) {
	for _, found := range []uint32{Current + 1, Current + 2, 1000} {
		var newer *NewerError
		if err := Check(found); !errors.As(err, &newer) {
			t.Fatalf("Check(%d) = %v, want a *NewerError", found, err)
		}
		if newer.Found != found || newer.Current != Current {
			t.Errorf("Check(%d) found %d, current %d", found, newer.Found, newer.Current)
		}
		if errors.Is(newer, store.ErrNotHistory) {
			t.Errorf("Check(%d) is a history all the same", found)
		}
	}
}

// The sentence is what a user sees: it says what to do.
func TestNewerSentence(t *testing.T) {
	for e, want := range map[*NewerError]string{
		{File: "tbhist.db", Found: 3, Current: 1}: "history tbhist.db has format 3, this tbhist knows up to 1: use a newer tbhist, or another --db",
		{Found: 3, Current: 1}:                    "history has format 3, this tbhist knows up to 1: use a newer tbhist, or another --db",
	} {
		if got := e.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestCheckNoVersion(t *testing.T) {
	for _, found := range []uint32{0, implausible, 0x62626f6c, 1<<32 - 1} {
		if err := Check(found); !errors.Is(err, store.ErrNotHistory) {
			t.Errorf("Check(%d) = %v, want store.ErrNotHistory", found, err)
		}
		if _, err := Steps(found); !errors.Is(err, store.ErrNotHistory) {
			t.Errorf("Steps(%d): %v, want store.ErrNotHistory", found, err)
		}
	}
}

// The steps form one chain that ends at Current, each with something to run.
func TestStepsAreAChain(t *testing.T) {
	for i, s := range steps {
		next := Current
		if i+1 < len(steps) {
			next = steps[i+1].From
		}
		if s.From == 0 || s.To != next || s.To <= s.From || s.Run == nil {
			t.Errorf("step %d from %d to %d does not lead on to %d", i, s.From, s.To, next)
		}
	}
}

func TestPlan(t *testing.T) {
	run := func(context.Context, *bbolt.DB, *bbolt.DB, func(done, total int64)) error { return nil }
	chain := []Step{{1, 2, run}, {2, 4, run}, {4, 5, run}}
	for found, want := range map[uint32][]uint32{1: {1, 2, 4}, 2: {2, 4}, 4: {4}, 5: {}} {
		path, err := plan(chain, found, 5)
		if err != nil {
			t.Errorf("from %d: %v", found, err)
		}
		if len(path) != len(want) {
			t.Errorf("from %d: %d steps, want %d", found, len(path), len(want))
			continue
		}
		for i, s := range path {
			if s.From != want[i] {
				t.Errorf("from %d: step %d begins at %d, want %d", found, i, s.From, want[i])
			}
		}
	}
	for _, found := range []uint32{0, 3} {
		if _, err := plan(chain, found, 5); !errors.Is(err, store.ErrNotHistory) {
			t.Errorf("from %d: %v, want store.ErrNotHistory", found, err)
		}
	}
	var newer *NewerError
	if _, err := plan(chain, 6, 5); !errors.As(err, &newer) {
		t.Errorf("from 6: %v, want a *NewerError", err)
	}
}

func TestOlderSentence(t *testing.T) {
	if got, want := (&OlderError{Found: 1, Current: 2}).Error(), "history has format 1, needed is 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
