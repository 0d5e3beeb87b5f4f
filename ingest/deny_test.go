package ingest

import (
	"strings"
	"testing"

	"tbhist/thing"
)

func TestDenyHas(t *testing.T) {
	d := newDeny([]thing.Name{"shop.lamp", "x"})
	for name, want := range map[string]bool{
		"": false, "shop": false, "shop.lamp": true, "shop.lamp.left": true, "shop.lamp.left.on": true, "shop.lamps": false,
		"shop.lamp-2": false, "x": true, "x.y": true, "xy": false, "a.x": false,
	} {
		if got := d.has([]byte(name)); got != want {
			t.Errorf("%q is denied: %v", name, got)
		}
	}
	if !newDeny([]thing.Name{""}).has([]byte("a.b")) || newDeny(nil).has([]byte("a")) {
		t.Error("everything and nothing are mixed up")
	}
}

// What is denied is refused with its own reason, known or not, takes no room,
// and takes nothing with it.
func TestDeny(t *testing.T) {
	b := newBench(t, Options{MaxThings: 3, Deny: []thing.Name{"shop.lamp"}})
	b.Know("shop.lamp")
	b.feed(fromZMQ, update("shop.lamp", "1"), update("shop", "2"), update("shop.lamp.left", "3"), update("shop.lamps", "4"), update("over", "5"))
	b.feed(fromZMQ, update("shop.lamp.right", "6"), update("shop", "7"))
	var got []string
	b.take(3, func(_ int, u *thing.Update) { got = append(got, string(u.Name)+string(u.Data)) })
	if strings.Join(got, " ") != "shop2 shop.lamps4 shop7" {
		t.Errorf("taken is %q", got)
	}
	if n := b.refusedBy(thing.ZMQ, thing.ReasonDenied); n != 3 {
		t.Errorf("%v are refused as denied", n)
	}
	if n := b.refusedBy(thing.ZMQ, thing.ReasonMaxThings); n != 1 {
		t.Errorf("%v are refused as one too many", n)
	}
	said := strings.Join(b.log.lines(), "\n")
	if !strings.Contains(said, "reason=denied") || !strings.Contains(said, "--deny") || !strings.Contains(said, `shop.lamp`) {
		t.Errorf("logged\n%s", said)
	}
	// Once forgotten it is denied as one that never was, and its room is free.
	b.Forget("shop.lamp", true)
	b.feed(fromZMQ, update("shop.lamp", "8"), update("over", "9"))
	if got := b.one(); !strings.HasPrefix(got, `"over" 9`) {
		t.Errorf("taken is %s", got)
	}
	if n := b.refusedBy(thing.ZMQ, thing.ReasonDenied); n != 4 {
		t.Errorf("%v are refused as denied", n)
	}
}
