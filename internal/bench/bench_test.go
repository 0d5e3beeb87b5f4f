package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"tbhist/internal/wire"
)

// thousand is the workload of 1,000 Things, for all tests.
var thousand = sync.OnceValue(func() *workload { return newWorkload(1000) })

// TestWorkload holds what figures are compared by: the size of an update,
// that it is taken, and that all Things come in each turn.
func TestWorkload(t *testing.T) {
	const things = 1000
	w, again := thousand(), newWorkload(things)
	seen, size := map[string]int{}, 0
	d := wire.NewDecoder(wire.Limits{})
	for i, p := range w.payloads {
		if !bytes.Equal(p, again.payloads[i]) {
			t.Fatalf("update %d is another when made again", i)
		}
		var draft wire.Draft
		if _, err := d.JSON(nil, p, &draft); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if string(draft.NS) != w.names[i] {
			t.Fatalf("%s is of %s", p, w.names[i])
		}
		seen[w.names[i]]++
		size += len(p)
	}
	if mean := size / cycle; mean < 206 || mean > 226 {
		t.Errorf("an update has %d bytes, not about 216", mean)
	}
	if len(seen) != things {
		t.Errorf("%d Things, not %d", len(seen), things)
	}
	for name, n := range seen {
		if n != cycle/things {
			t.Fatalf("%s comes %d times", name, n)
		}
	}
}

func TestRatioOfRounds(t *testing.T) {
	r := &result{}
	r.ratio("x", []float64{8, 2, 9}, []float64{2, 1, 1}, 5)
	r.ratio("not measured", nil, []float64{1}, 0)
	r.share("share", []float64{50, 100}, 100)
	want := []ratio{
		{Name: "x", Value: 4, Least: 2, Most: 9, Wanted: 5},
		{Name: "share", Value: 0.75, Least: 0.5, Most: 1, Wanted: 1, AtMost: true},
	}
	if !slices.Equal(r.Ratios, want) {
		t.Errorf("ratios are %+v", r.Ratios)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.4321: "0.432", 4.321: "4.32", 43.21: "43.2", 432.1: "432", 4321: "4,321", 1234567: "1,234,567", -4321: "-4,321",
	} {
		if got := short(v); got != want {
			t.Errorf("%v is written %s, not %s", v, got, want)
		}
	}
}

// TestReport holds that ratios come first and JSON last, in one line.
func TestReport(t *testing.T) {
	res := &result{Row: "row"}
	res.ratioAtMost("a / b", []float64{3}, []float64{2}, 1)
	res.figure("a", "ms", []float64{3})
	var out strings.Builder
	if err := (&report{Rounds: 1, Rows: []*result{res}}).print(&out, false); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	ratioAt, figureAt, jsonAt := strings.Index(text, "row: a / b"), strings.Index(text, "row: a  "), strings.Index(text, "\n{")
	if ratioAt < 0 || figureAt < ratioAt || jsonAt < figureAt {
		t.Errorf("not in order:\n%s", text)
	}
	if !strings.Contains(text, "not reached") {
		t.Errorf("nothing says that 1.5 is more than 1:\n%s", text)
	}
	var back report
	if err := json.Unmarshal([]byte(text[jsonAt:]), &back); err != nil {
		t.Error(err)
	}
}
