package cli

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

func TestParseSpeed(t *testing.T) {
	for s, want := range map[string]float64{"": 0, "max": 0, "MAX": 0, "1": 1, "10": 10, "0.5": 0.5, ".25": 0.25} {
		if got, err := parseSpeed(s); err != nil || got != want {
			t.Errorf("parseSpeed(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"0", "0.0", "-1", "+1", "1e3", "inf", "NaN", "0x1", "fast", "1x", "1 "} {
		if got, err := parseSpeed(s); err == nil {
			t.Errorf("parseSpeed(%q) = %v", s, got)
		}
	}
}

// seconds are when updates are replayed whose times are these, in seconds,
// if handling each takes a while.
func paced(t *testing.T, p *pace, takes time.Duration, times ...float64) (seconds []float64) {
	t.Helper()
	p.idle = func(time.Duration) error { return nil }
	begun := time.Now()
	for _, at := range times {
		u := client.Update{Received: thing.MicrosOfSeconds(1e9 + at), TS: 5}
		if p.byTS {
			u.TS, u.Received = 1e9+at, 5
		}
		if err := p.wait(t.Context(), &u); err != nil {
			t.Fatal(err)
		}
		seconds = append(seconds, time.Since(begun).Seconds())
		time.Sleep(takes) //nolint:forbidigo // in a bubble of its own time
	}
	return seconds
}

func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		p           pace
		takes       time.Duration
		times, want []float64
	}{
		"as it was":              {pace{speed: 1}, 0, []float64{0, 1, 1, 3.5, 3.5}, []float64{0, 1, 1, 3.5, 3.5}},
		"ten times":              {pace{speed: 10}, 0, []float64{0, 10, 30}, []float64{0, 1, 3}},
		"half":                   {pace{speed: 0.5}, 0, []float64{0, 1, 2}, []float64{0, 2, 4}},
		"by ts":                  {pace{speed: 1, byTS: true}, 0, []float64{0, 2, 3}, []float64{0, 2, 3}},
		"a clock set back":       {pace{speed: 1}, 0, []float64{0, 1, -3600, -3599, -3597}, []float64{0, 1, 1, 2, 4}},
		"sources that differ":    {pace{speed: 1, byTS: true}, 0, []float64{10, 9, 11, 10, 12}, []float64{0, 0, 1, 1, 2}},
		"work counts":            {pace{speed: 1}, 500 * time.Millisecond, []float64{0, 1, 2}, []float64{0, 1, 2}},
		"what is too late stays": {pace{speed: 1}, 5 * time.Second, []float64{0, 1, 2}, []float64{0, 6, 12}},
		"days":                   {pace{speed: 2}, 0, []float64{0, 172800}, []float64{0, 86400}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := paced(t, &c.p, c.takes, c.times...)
				for i := range got {
					if d := got[i] - c.want[i]; d < -1e-5 || d > 1e-5 { // TS has its own precision
						t.Fatalf("replayed after %v s, want %v", got, c.want)
					}
				}
			})
		})
	}
}

func TestPaceInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		idle := time.Duration(0)
		p := pace{speed: 1e-9, idle: func(pause time.Duration) error { idle = pause; return nil }}
		first, second := client.Update{Received: 0}, client.Update{Received: 1e15}
		if err := p.wait(ctx, &first); err != nil {
			t.Fatal(err)
		}
		if err := p.wait(ctx, &second); err == nil || time.Until(time.Now()) > time.Second {
			t.Errorf("a pause that was interrupted ends with %v", err)
		}
		if idle != longestPause {
			t.Errorf("the pause is told as %s", idle)
		}
	})
}
