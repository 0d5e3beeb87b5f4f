package directory

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"tbhist/thing"
)

func TestForget(t *testing.T) {
	d := New(Options{})
	names := []thing.Name{"b.c.d", "a", "b-x", "b", "b.c", ""}
	batch := func(seq uint64) (us []thing.Update) {
		for i, name := range names {
			u := update(name, seq+uint64(i), fmt.Sprint(seq))
			u.Slot = uint32(i + 1)
			us = append(us, u)
		}
		return us
	}
	d.Apply(batch(1), 1)
	if got := d.Forget("b.x", true); got != nil || d.Len() != 6 {
		t.Errorf("of nothing %q is forgotten", got)
	}
	if got := d.Forget("b.c", false); !slices.Equal(got, []thing.Name{"b.c"}) {
		t.Errorf("forgotten is %q", got)
	}
	if got := d.Forget("b", true); !slices.Equal(got, []thing.Name{"b", "b.c.d"}) {
		t.Errorf("forgotten is %q", got)
	}
	if all := parse(t, d.Snapshot(SnapshotOptions{})); len(all) != 3 || d.Len() != 3 || d.Known("b") {
		t.Errorf("the snapshot has %v", all)
	}
	// They begin anew, each known by its slot as before.
	d.Apply(batch(7), 2)
	d.Apply(batch(13), 3)
	if e, _ := d.Get("b.c"); e.Updates != 2 || e.Update.Seq != 17 {
		t.Errorf("anew it is %+v", e)
	}
	if e, _ := d.Get("a"); e.Updates != 3 {
		t.Errorf("another is %+v", e)
	}
	if all := parse(t, d.Snapshot(SnapshotOptions{})); len(all) != 6 || string(all["b.c.d"].Update.Data) != "13" {
		t.Errorf("the snapshot has %v", all)
	}
	if got := d.Forget("", true); len(got) != 6 || d.Len() != 0 {
		t.Errorf("of everything %q is forgotten", got)
	}
}

// A snapshot and a walk under way leave out what is forgotten before they come
// to it, and what begins anew is not in the snapshot.
func TestForgetUnderWay(t *testing.T) {
	d := New(Options{})
	for i := range 3 * chunkItems {
		d.Apply([]thing.Update{update(thing.Name(fmt.Sprintf("a.n%04d", i)), uint64(i+1), "1")}, uint64(i+1))
	}
	last := thing.Name(fmt.Sprintf("a.n%04d", 3*chunkItems-1))

	var seen []thing.Name
	d.Walk(nil, "", true, func(e *Entry) bool {
		if len(seen) == 0 {
			d.Forget(last, false)
		}
		seen = append(seen, e.Update.Name)
		return true
	})
	if len(seen) != 3*chunkItems-1 || slices.Contains(seen, last) {
		t.Errorf("the walk saw %d Things", len(seen))
	}

	d.Apply([]thing.Update{update(last, 1000, "2")}, 1000)
	d.mu.Lock()
	d.cuts++
	c := &cut{number: d.cuts, saved: make(map[*item]saved)}
	d.cut = c
	items := d.index()
	d.mu.Unlock()
	p := newParts(SnapshotOptions{})
	items = d.copyChunk(items, c, p)
	d.Apply([]thing.Update{update(last, 1001, "3")}, 1001) // saved as it was
	d.Forget(last, false)
	d.Apply([]thing.Update{update(last, 1002, "4")}, 1002)
	for len(items) > 0 {
		items = d.copyChunk(items, c, p)
	}
	d.mu.Lock()
	d.cut = nil
	d.mu.Unlock()
	if p.entries != 3*chunkItems-1 || len(c.saved) != 0 {
		t.Errorf("the snapshot has %d entries, %d were left", p.entries, len(c.saved))
	}
	if all := parse(t, d.Snapshot(SnapshotOptions{})); len(all) != 3*chunkItems || string(all[last].Update.Data) != "4" {
		t.Errorf("the next has %d entries", len(all))
	}
}

// Beside everything else that goes on, what is forgotten stays so.
func TestForgetBeside(t *testing.T) {
	d := New(Options{})
	const things = 500
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				parse(t, d.Snapshot(SnapshotOptions{}))
				d.Walk(nil, "a", true, func(*Entry) bool { return true })
			}
		})
	}
	seq := uint64(0)
	for round := range 8 {
		var batch []thing.Update
		for i := range things {
			seq++
			u := update(thing.Name(fmt.Sprintf("a.n%d.r%d", i%50, (i+round*7)%things)), seq, "1")
			u.Slot = uint32((i+round*7)%things + 1)
			batch = append(batch, u)
		}
		d.Apply(batch, uint64(round+1))
		before := d.Len()
		gone := thing.Name(fmt.Sprintf("a.n%d", round))
		names := d.Forget(gone, true)
		if len(names) == 0 || d.Len() != before-len(names) || d.Known(names[0]) {
			t.Errorf("of %d Things %d are forgotten, %d left", before, len(names), d.Len())
		}
		d.Walk(nil, gone, true, func(e *Entry) bool {
			t.Errorf("%q is there", e.Update.Name)
			return true
		})
	}
	close(stop)
	wg.Wait()
	n := 0
	d.Walk(nil, "", true, func(*Entry) bool { n++; return true })
	if n != d.Len() {
		t.Errorf("a walk sees %d Things of %d", n, d.Len())
	}
}
