package directory

import (
	"fmt"
	"testing"
	"time"

	"tbhist/thing"
)

// A clock that is set changes nothing of what is known but ages: the last to
// arrive stays, and a source counts as seen in the last hour only if it was.
func TestClockSteps(t *testing.T) {
	right := thing.MicrosOf(time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC))
	for name, wrong := range map[string]thing.Micros{
		"ten years on": right + 10*365*24*3600e6, "ten years back": right - 10*365*24*3600e6, "1970": 5e6,
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{right}
			d := New(Options{Now: c.time})
			a, b := &thing.Source{Transport: 1}, &thing.Source{Transport: 2}
			seq := uint64(0)
			send := func(s *thing.Source) {
				seq++
				// The source's clock knows only how long it has been on.
				u := thing.Update{Name: "a", Data: fmt.Append(nil, seq), TS: float64(seq), Received: c.now, Seq: seq, ThingSeq: seq, Source: s}
				d.Apply([]thing.Update{u}, seq)
			}
			want := func(sources int, age time.Duration) {
				t.Helper()
				e, _ := d.Get("a")
				if e.Sources != sources || e.Age(c.now) != age {
					t.Errorf("%d sources, %v old; want %d, %v", e.Sources, e.Age(c.now), sources, age)
				}
				if e.Update.Seq != seq || string(e.Update.Data) != fmt.Sprint(seq) || e.Update.TS != float64(seq) {
					t.Errorf("%+v, want that of seq %d", e.Update, seq)
				}
			}
			send(a)
			want(1, 0)
			c.now = wrong
			want(0, time.Duration(wrong-right)*time.Microsecond)
			send(b)
			want(1, 0)
			c.now = right + 60e6
			want(1, time.Duration(right+60e6-wrong)*time.Microsecond)
			send(a)
			want(1, 0) // the other was seen in another year
			send(b)
			want(2, 0)
			c.now += 3600e6
			want(0, time.Hour)
		})
	}
}

// Of many sources the ones seen last are kept, though the clock was set back.
func TestSourcesInOrder(t *testing.T) {
	c := &clock{1.8e15}
	d := New(Options{Now: c.time, MaxSources: 3})
	sources := make([]*thing.Source, 6)
	for i := range sources {
		sources[i] = &thing.Source{Transport: thing.Transport(i)}
	}
	apply := func(i int) {
		d.Apply([]thing.Update{{Name: "a", Received: c.now, Source: sources[i]}}, 1)
	}
	for i := range 3 {
		apply(i)
	}
	c.now -= 1e15
	for _, i := range []int{3, 4, 5, 4, 3} {
		apply(i)
		c.now++
	}
	if e, _ := d.Get("a"); e.Sources != 3 {
		t.Errorf("%d sources are known, want the three seen last", e.Sources)
	}
}
