package publish

import (
	"fmt"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

const everything = wire.UpdatePrefix

func TestOrder(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(everything)
	for range 100 {
		r.publish("a", "b", "a.b")
	}
	msgs := s.take(300)
	wantSeqs(t, msgs, 1, 300)
	if u := msgs[299].Update; u.Name != "a.b" || u.ThingSeq != 100 || string(u.Data) != `{"n":300}` {
		t.Errorf("the last update is %+v", u)
	}
	if got := r.value(r.o.Metrics.Delivered); got != 300 {
		t.Errorf("delivered %d", got)
	}
}

// A subscriber gets what its prefixes match and is not even woken for
// anything else.
func TestPrefixes(t *testing.T) {
	r := newRig(t, Options{})
	shop := r.serve()
	for _, p := range wire.Prefix("shop", true) {
		shop.subscribe(string(p))
	}
	inName := r.serve(updateHead + "sh")
	inData := r.serve(updateHead + `shop", "data": {"n":1`)
	nothing := r.serve(updateHead + `zoo"`)
	r.idle()
	before := r.cursor(nothing).since // changes when it stops idling
	for range 20 {
		r.pass(time.Second)
		r.publish("shop", "shop.till", "shop-front", "shape", "")
	}
	if r.cursor(nothing).since != before {
		t.Error("a subscriber was woken for updates it did not subscribe to")
	}
	r.idle()
	for _, m := range shop.take(40) {
		if !m.Update.Name.Under("shop") {
			t.Errorf("the subtree of shop brings %q", m.Update.Name)
		}
	}
	for _, m := range inName.take(80) {
		if m.Update.Name == "" {
			t.Error("a prefix that ends inside the name brings the root")
		}
	}
	for _, m := range inData.take(3) { // n is 1, 6, 11, 16, … 96
		if m.Update.Name != "shop" || m.Update.Data[5] != '1' {
			t.Errorf("a prefix that reaches into the data brings %q %s", m.Update.Name, m.Update.Data)
		}
	}
	for _, s := range []*served{shop, inName, inData, nothing} {
		s.none()
	}
}

func TestUnsubscribe(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(updateHead+`a"`, updateHead+`b"`, updateHead+`b"`)
	r.publish("a", "b", "c")
	s.take(2)
	s.cancel(updateHead + `a"`)
	s.cancel(updateHead + `b"`) // once of twice
	s.cancel(updateHead + `x"`) // never was
	r.publish("a", "b", "c")
	if m := s.take(1)[0]; m.Update.Name != "b" {
		t.Errorf("got %q", m.Update.Name)
	}
	s.cancel(updateHead + `b"`)
	r.publish("a", "b", "c")
	s.subscribe(everything)
	r.publish("a", "b", "c")
	if got := seqs(s.take(3)); got[0] != 10 {
		t.Errorf("after subscribing anew: %v", got)
	}
	s.cancel(everything)
	r.publish("a")
	r.idle()
	s.none()
	if r.routes.held != 0 {
		t.Errorf("%d prefixes are left", r.routes.held)
	}
}

func TestSubscribersGauge(t *testing.T) {
	r := newRig(t, Options{})
	s, u := r.serve(), r.serve()
	g := r.o.Metrics.Subscribers
	if got := r.value(g); got != 0 {
		t.Errorf("%d without subscriptions", got)
	}
	s.subscribe("x")
	s.subscribe(everything)
	u.subscribe(updateHead + "a")
	u.subscribe(everything)
	r.idle()
	if got := r.value(g); got != 2 {
		t.Errorf("%d, want 2", got)
	}
	s.cancel("x")
	s.cancel(everything)
	if got := r.value(g); got != 1 {
		t.Errorf("%d after one has cancelled, want 1", got)
	}
	u.leave()
	if got := r.value(g); got != 0 {
		t.Errorf("%d after all have left", got)
	}
	if len(r.subs) != 1 || len(r.waiting) != 1 || r.routes.held != 0 {
		t.Errorf("%d subscribers, %d waiting, %d routes are left", len(r.subs), len(r.waiting), r.routes.held)
	}
}

// A heartbeat stands behind all that its seq covers.
func TestHeartbeatOrder(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(everything, wire.HeartbeatPrefix)
	if m := s.take(1)[0]; m.Kind != wire.KindHeartbeat || m.Heartbeat.Seq != 0 || m.Heartbeat.Epoch != "e1" {
		t.Fatalf("the first subscription to heartbeats brings %+v", m)
	}
	for range 50 {
		r.publish("a", "b")
		r.beat()
	}
	r.idle()
	r.beat()
	var last, beats uint64
	for {
		m := s.take(1)[0]
		if m.Kind == wire.KindUpdate {
			if last++; m.Update.Seq != last {
				t.Fatalf("seq %d behind %d", m.Update.Seq, last)
			}
			continue
		}
		if beats++; m.Heartbeat.Seq != last {
			t.Fatalf("a heartbeat for seq %d behind update %d", m.Heartbeat.Seq, last)
		}
		if last == 100 {
			break
		}
	}
	filtered := r.serve(updateHead+`zoo"`, wire.HeartbeatPrefix)
	filtered.take(1)
	r.idle()
	r.publish("a")
	r.beat()
	if m := filtered.take(1)[0]; m.Heartbeat.Seq != 101 {
		t.Errorf("a heartbeat to one for whom there was nothing is for %d, want 101", m.Heartbeat.Seq)
	}
	r.h.set(func(h *fakeHistory) { h.degraded = "no space" })
	r.beat()
	if m := filtered.take(1)[0]; !m.Heartbeat.Degraded {
		t.Error("the heartbeat does not tell that the disk refuses")
	}
}

func TestHeartbeatOfOneBehind(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(everything, wire.HeartbeatPrefix)
	s.take(1)
	s.open(false)
	r.publish("a")
	s.untilStuck()
	r.publish("a")
	r.beat() // its place is behind the first update, where the writer stands
	r.publish("a")
	s.open(true)
	var got []string
	for _, m := range s.take(4) {
		got = append(got, fmt.Sprint(m.Kind, m.Update.Seq, m.Heartbeat.Seq))
	}
	want := []string{"1 1 0", "3 0 1", "1 2 0", "1 3 0"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUnkept(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(everything)
	r.publish("a")
	r.publishUnkept("a", "b")
	r.publish("a")
	if got := fmt.Sprint(seqs(s.take(4))); got != "[1 0 0 2]" {
		t.Errorf("seqs %s", got)
	}
	if got := r.value(r.o.Metrics.Unkept); got != 2 {
		t.Errorf("unkept %d", got)
	}
}

func TestRunTicks(t *testing.T) {
	r := newRig(t, Options{Heartbeat: time.Millisecond, SnapshotInterval: 3 * time.Millisecond})
	s := r.serve("")
	ctx, cancel := withTimeout(t)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	seen := map[wire.Kind]int{}
	for seen[wire.KindSnapshot] < 3 || seen[wire.KindHeartbeat] < 3 {
		seen[s.take(1)[0].Kind]++
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A large batch is cut into chunks, at the same places for all.
func TestLargeBatch(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(everything)
	one := r.serve(updateHead + `t7"`)
	var names []thing.Name
	for i := range 5000 {
		names = append(names, thing.Name(fmt.Sprintf("t%d", i%100)))
	}
	r.publish(names...)
	wantSeqs(t, s.take(5000), 1, 5000)
	for i, m := range one.take(50) {
		if m.Update.ThingSeq != uint64(i+1) {
			t.Fatalf("update %d has thing_seq %d", i, m.Update.ThingSeq)
		}
	}
}

func TestLag(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(everything)
	if got := r.lag(); got != 0 {
		t.Errorf("%v with nothing to send", got)
	}
	s.open(false)
	r.publish("a")
	s.untilStuck()
	r.pass(2 * time.Second)
	r.publish("a")
	r.pass(3 * time.Second)
	if got := r.lag(); got != 5 {
		t.Errorf("%v s, want 5: what it does not take was received then", got)
	}
	s.open(true)
	s.take(2)
	r.idle()
	if got := r.lag(); got != 0 {
		t.Errorf("%v s after all was sent", got)
	}
}

func TestDrain(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(everything)
	s.open(false)
	r.publish("a", "b")
	s.untilStuck()
	ctx, cancel := withTimeout(t)
	cancel()
	if err := r.Drain(ctx); err == nil {
		t.Error("drained while a subscriber waits")
	}
	s.mu.Lock()
	s.noFlush = true
	s.mu.Unlock()
	s.open(true)
	s.until("a flush that waits", func() bool { return len(s.bodies) == 2 && s.stuck })
	if err := r.Drain(ctx); err == nil {
		t.Error("drained while updates are not flushed")
	}
	s.mu.Lock()
	s.noFlush = false
	s.changed.Broadcast()
	s.mu.Unlock()
	r.idle()
	s.take(2)
}
