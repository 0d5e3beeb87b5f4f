package ingest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tbhist/thing"
)

func TestRefusalsLoggedOncePerMinute(t *testing.T) {
	const bad = "{\x00 no \\ é JSON"
	now := time.Unix(1e9, 0)
	b := newBench(t, Options{Now: func() time.Time { return now }})
	source := &thing.Source{Addr: netip.MustParseAddr("192.0.2.1"), Transport: thing.ZMQ}
	other := &thing.Source{Addr: netip.MustParseAddr("192.0.2.2"), Transport: thing.ZMQ}

	for range 5 {
		b.feed(source, bad)
	}
	b.feed(source, update("A", "1"))
	b.feed(other, "{")
	lines := b.log.lines()
	if len(lines) != 3 {
		t.Fatalf("logged %q, want one line per source and reason", lines)
	}
	for _, want := range []string{
		"level=WARN", "msg=refused", "source=192.0.2.1", "transport=zmq", "reason=not_json",
		`taken="one JSON document`, "suppressed=0",
		`sample="{\\x00 no \\\\ \\xc3\\xa9 JSON"`, // slog doubles the backslashes
	} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("%s\ndoes not say %s", lines[0], want)
		}
	}
	now = now.Add(time.Minute - 1)
	b.feed(source, bad)
	if lines := b.log.lines(); len(lines) != 0 {
		t.Errorf("logged again within the minute: %q", lines)
	}
	now = now.Add(1)
	b.feed(source, bad)
	if lines := b.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "suppressed=5") {
		t.Errorf("a minute later logged %q, want the 5 that were suppressed", lines)
	}

	got := b.Refusals()
	if len(got) != 4 {
		t.Fatalf("remembered %+v", got)
	}
	if r := got[0]; r.Time != thing.Micros(1e15) || r.Source != source.Addr || r.Transport != thing.ZMQ ||
		r.Suppressed != 5 || r.Taken == "" || r.Sample != `{\x00 no \\ \xc3\xa9 JSON` {
		t.Errorf("remembered %+v", r)
	}
	if r := got[3]; r.Time != thing.Micros(1e15+6e7) || r.Suppressed != 0 {
		t.Errorf("remembered last %+v", r)
	}
}

// Whoever sees a refusal counted finds it logged and remembered.
func TestRefusalsAreCountedLast(t *testing.T) {
	var b *bench
	noted := 0
	b = newBench(t, Options{Now: func() time.Time {
		if noted++; noted == 2 && b.refusedBy(thing.ZMQ, thing.ReasonNotJSON) != 0 {
			t.Error("it is counted before it is noted")
		}
		return time.Unix(1e9, 0)
	}})
	b.feed(&thing.Source{Transport: thing.ZMQ}, "{") // which has one look at the clock itself
	if n := b.refusedBy(thing.ZMQ, thing.ReasonNotJSON); n != 1 || noted != 2 {
		t.Errorf("%v counted, %d looks at the clock", n, noted)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	b := newBench(t, Options{})
	long := strings.Repeat("\xff", 500)
	for i := range 250 {
		source := &thing.Source{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Transport: thing.ZMQ}
		b.feed(source, fmt.Sprintf("%03d", i)+long)
	}
	got := b.Refusals()
	if len(got) != 100 {
		t.Fatalf("%d are remembered", len(got))
	}
	for i, r := range got {
		if want := fmt.Sprintf("%03d", 150+i) + strings.Repeat(`\xff`, 77); r.Sample != want {
			t.Fatalf("number %d is %s, want %s", i, r.Sample, want)
		}
	}
	// The newest of several lines for the same gets the repetition.
	b.feed(&thing.Source{Addr: netip.AddrFrom4([4]byte{192, 0, 2, 249}), Transport: thing.ZMQ}, long)
	if r := b.Refusals()[99]; r.Suppressed != 1 {
		t.Errorf("the last one is %+v", r)
	}
}

// A flood of bad messages costs no memory.
func TestRefusalAllocates(t *testing.T) {
	in := New(Options{})
	source := &thing.Source{Transport: thing.ZMQ}
	burst := newBurst(in.o.Limits)
	bad := []byte(update("BAD", "1"))
	in.decode(burst, bad, source)
	if n := testing.AllocsPerRun(1000, func() { in.decode(burst, bad, source) }); n > 0 {
		t.Errorf("%v allocations for each refused message", n)
	}
}
