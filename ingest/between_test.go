package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"tbhist/thing"
)

// What is to be done between two batches is, whether or not one is waiting,
// and nothing of it is lost to a close.
func TestBetween(t *testing.T) {
	b := newBench(t, Options{})
	var did []string
	note := func(s string) func() { return func() { did = append(did, s) } }
	// A consumer that waits for a batch is woken.
	called := make(chan struct{})
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.ctx)
	go func() {
		_, err := b.Next(ctx, 0)
		ended <- err
	}()
	if !b.Between(func() { close(called) }) {
		t.Error("an open input takes nothing")
	}
	<-called
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// It comes before what was there first.
	b.feed(fromZMQ, update("a", "1"))
	b.Between(note("one"))
	b.Between(note("two"))
	b.take(1, func(int, *thing.Update) { did = append(did, "batch") })
	b.Between(note("three"))
	b.Close()
	if b.Between(note("never")) {
		t.Error("a closed input takes something")
	}
	if _, err := b.Next(b.ctx, 0); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	if got := strings.Join(did, " "); got != "one two batch three" {
		t.Errorf("done is %s", got)
	}
}

// Whatever Between takes is called before Next says that all is over.
func TestBetweenAndClose(t *testing.T) {
	for range 2000 {
		in := New(Options{})
		taken, called := 0, 0
		var wg sync.WaitGroup
		wg.Go(func() {
			for in.Between(func() { called++ }) {
				if taken++; taken == 20 {
					return
				}
			}
		})
		wg.Go(in.Close)
		for {
			if _, err := in.Next(t.Context(), 0); errors.Is(err, io.EOF) {
				break
			}
		}
		wg.Wait()
		if taken != called {
			t.Fatalf("%d were taken, %d called", taken, called)
		}
	}
}

// Forgotten Things make room for new ones, and no slot is given twice.
func TestForgetMakesRoom(t *testing.T) {
	b := newBench(t, Options{MaxThings: 10})
	slots := map[uint32]string{}
	send := func(ns string) bool {
		t.Helper()
		before := b.refusedBy(thing.ZMQ, thing.ReasonMaxThings)
		b.feed(fromZMQ, update(ns, "1"))
		if b.refusedBy(thing.ZMQ, thing.ReasonMaxThings) != before {
			return false
		}
		b.take(1, func(_ int, u *thing.Update) {
			if was, ok := slots[u.Slot]; u.Slot == 0 || u.Slot > 10 || (ok && was != ns) {
				t.Errorf("%q has slot %d, which is that of %q", ns, u.Slot, was)
			}
			slots[u.Slot] = ns
		})
		return true
	}
	forget := func(name thing.Name, tree bool) {
		b.Forget(name, tree)
		for slot, ns := range slots {
			if n := thing.Name(ns); n == name || tree && n.Under(name) {
				delete(slots, slot)
			}
		}
	}
	for i := range 10 {
		send(fmt.Sprintf("t%d.x", i))
	}
	if lines := b.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "80 %") {
		t.Errorf("logged %q", lines)
	}
	if send("new") {
		t.Error("there was no room")
	}
	b.log.lines()
	for round := range 5 {
		forget(thing.Name(fmt.Sprintf("t%d.x", round)), false)
		forget(thing.Name(fmt.Sprintf("t%d", round+5)), true)
		for _, ns := range []string{"new.a%d", "new.b%d"} {
			if !send(fmt.Sprintf(ns, round)) {
				t.Error("there is no room")
			}
		}
		if send("over") {
			t.Error("there was room")
		}
	}
	forget("", true)
	if !send("again") {
		t.Error("there is no room")
	}
	b.log.lines()
	for i := range 9 {
		send(fmt.Sprintf("more.t%d", i))
	}
	if lines := b.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "80 %") {
		t.Errorf("logged %q: it is worth a warning anew", lines)
	}
}

// One that is waiting to be taken begins anew at once, and so stays known.
func TestForgetWhileItWaits(t *testing.T) {
	b := newBench(t, Options{MaxThings: 2})
	b.Know("a")
	b.Know("b")
	b.feed(fromZMQ, update("a", "1"))
	b.Forget("", true)
	b.take(1, func(_ int, u *thing.Update) {
		if u.Name != "a" {
			t.Errorf("%q comes", u.Name)
		}
	})
	b.feed(fromZMQ, update("c", "1"), update("d", "1"), update("a", "2"))
	var got []string
	b.take(2, func(_ int, u *thing.Update) { got = append(got, string(u.Name)) })
	if strings.Join(got, " ") != "c a" {
		t.Errorf("then %q come", got)
	}
}
