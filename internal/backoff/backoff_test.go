package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Pauses grow up to the highest.
func TestNext(t *testing.T) {
	b := Backoff{Lowest: 100, Highest: 500}
	for i, most := range []time.Duration{100, 200, 400, 500, 500} {
		if p := b.Next(); p > most || p < most/2 {
			t.Errorf("pause %d is %d, not in %d…%d", i, p, most/2, most)
		}
	}
	b.Reset()
	if p := b.Next(); p > 100 {
		t.Errorf("the first pause after a reset is %d", p)
	}
}

// Pauses are never the same for all, however long it goes on.
func TestNextDiffers(t *testing.T) {
	b := Backoff{Lowest: 100 * time.Millisecond, Highest: 5 * time.Second}
	seen := map[time.Duration]bool{}
	for range 200 {
		p := b.Next()
		if p < b.Lowest/2 || p > b.Highest {
			t.Errorf("a pause of %v", p)
		}
		seen[p] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d different pauses", len(seen))
	}
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		b := Backoff{Lowest: time.Minute, Highest: time.Hour}
		if err := b.Pause(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 30*time.Second || took > time.Minute {
			t.Errorf("it took %v", took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if err := Wait(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
