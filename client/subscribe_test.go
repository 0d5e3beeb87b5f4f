package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSubscribeInvalid(t *testing.T) {
	d := newFake(t, nil).client().Directory()
	var invalid *InvalidError
	if _, err := d.Thing("Shop").Subscribe(func(ThingEvent) {}); !errors.As(err, &invalid) {
		t.Error(err)
	}
	for _, err := range d.Thing("Shop").Events(t.Context()) {
		if !errors.As(err, &invalid) {
			t.Error(err)
		}
	}
	if _, _, ok := d.Thing("Shop").Data(); ok || d.Thing("Shop").Children() != nil {
		t.Error("it is a Thing")
	}
}

// A function may subscribe and close, itself too, and look at the directory.
func TestSubscribeWithin(t *testing.T) {
	f := newFake(t, nil)
	d := f.client().Directory()
	var heard []string
	var subscribed []*Subscription
	listen := func(name string, f func(ThingEvent)) {
		s, err := d.Thing("shop.door").Subscribe(func(e ThingEvent) {
			heard = append(heard, fmt.Sprintf("%s%d", name, e.Update.Seq))
			if f != nil {
				f(e)
			}
		})
		if err != nil {
			t.Error(err)
		}
		subscribed = append(subscribed, s)
	}
	listen("a", func(e ThingEvent) {
		if _, data, _ := e.Thing.Data(); string(data) != string(e.Update.Data) {
			t.Errorf("the directory has %s", data)
		}
		if e.Update.Seq == 1 {
			subscribed[0].Close()
			subscribed[1].Close()
			subscribed[1].Close()
			listen("c", nil)
		}
	})
	listen("b", nil)
	stop := keep(t, d)
	f.say(1, updateLine(1), updateLine(2), beat(3))
	awaitState(t, d, func(s *DirectoryState) bool { return s.Seq == 3 })
	stop()
	if got := strings.Join(heard, " "); got != "a1 c2" {
		t.Error(got)
	}
}

// A Thing that was only listened to leaves nothing behind.
func TestSubscribeForgets(t *testing.T) {
	d := newFake(t, nil).client().Directory()
	a, err := d.Thing("a.b.c").Subscribe(func(ThingEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Thing("a.b").Subscribe(func(ThingEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	if got := names(d.Thing("a").Children()); got != "a.b" {
		t.Error(got)
	}
	b.Close()
	if len(d.nodes) != 0 {
		t.Errorf("%d are left", len(d.nodes))
	}
}

func TestEvents(t *testing.T) {
	f := newFake(t, nil)
	d := f.client().Directory()
	events := d.Thing("shop").Events(t.Context(), WithTree(), WithSnapshots())
	own := d.Thing("shop.door").Events(t.Context())
	keep(t, d)
	f.say(1, snapshotLine(1, 1, entry("shop.a", "5"), entry("lab", "5")), updateLine(1), updateLine(2))
	var got []string
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %s %v %d", e.Thing.Name(), e.Update.Data, e.Update.Doc, e.Snapshot, e.Dropped))
		if len(got) == 3 {
			break
		}
	}
	if s := strings.Join(got, "\n"); s != `shop.a 5 "http://shop.a" true 0`+"\nshop.door 1  false 0\nshop.door 2  false 0" {
		t.Error(s)
	}
	for e, err := range own {
		if err != nil || e.Update.Seq != 1 {
			t.Errorf("%d, %v", e.Update.Seq, err)
		}
		break
	}
	if d.Thing("shop").subscribed()+d.Thing("shop.door").subscribed() != 0 {
		t.Error("loops that were left still listen")
	}
}

func (t Thing) subscribed() int {
	t.d.mu.RLock()
	defer t.d.mu.RUnlock()
	if n := t.d.nodes[t.name]; n != nil {
		return len(n.subscriptions)
	}
	return 0
}

// A loop that is slow holds nobody back, and is told what it has missed.
func TestEventsDrop(t *testing.T) {
	f := newFake(t, nil)
	d := f.client().Directory()
	slow := d.Thing("shop.door").events(t.Context(), 3*(heldOverhead+2), nil)
	keep(t, d)
	for seq := range uint64(20) {
		f.say(1, updateLine(10+seq))
	}
	f.say(1, beat(30))
	awaitState(t, d, func(s *DirectoryState) bool { return s.Seq == 30 })
	go func() {
		f.say(1, updateLine(31))
	}()
	var got []string
	for e, err := range slow {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, fmt.Sprintf("%d-%d", e.Dropped, e.Update.Seq)); e.Update.Seq == 31 {
			break
		}
	}
	if s := strings.Join(got, " "); s != "17-27 0-28 0-29 0-31" {
		t.Error(s)
	}
}

// The context ends a loop that waits, and a queue that nobody takes from.
func TestEventsContext(t *testing.T) {
	d := newFake(t, nil).client().Directory()
	ctx, cancel := context.WithCancel(t.Context())
	waits, unused := d.Root().Events(ctx), d.Thing("a").Events(ctx)
	ended := make(chan error)
	go func() {
		for _, err := range waits {
			ended <- err
		}
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, err := range unused {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
