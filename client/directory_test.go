package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// keep runs Run until stop, or the end of the test.
func keep(t *testing.T, d *Directory, options ...FollowOption) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, options...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ends with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// awaitState waits for a state of the directory.
func awaitState(t *testing.T, d *Directory, is func(*DirectoryState) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		d.mu.RLock()
		state, changed := d.state, d.changed
		d.mu.RUnlock()
		if is(&state) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the state is %+v", state)
		}
	}
}

func ready(t *testing.T, d *Directory) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := d.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// say sends messages on the n-th connection of a directory.
func (f *fakeBroker) say(n int, msgs ...[]byte) {
	f.awaitSubscribed(3 * n)
	f.mu.Lock()
	c := f.feeds[n-1]
	f.mu.Unlock()
	for _, m := range msgs {
		if c.Write(zmtp.AppendFrame(nil, m, false)) != nil {
			return // the client has gone
		}
	}
	_ = c.Flush() // likewise
}

// snapshotLine makes a snapshot of entries, a part of several if there are.
func snapshotLine(part, parts int, entries ...wire.Entry) []byte {
	b := wire.AppendSnapshotHead(nil, 1)
	for i := range entries {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = wire.AppendSnapshotEntry(b, &entries[i])
	}
	return wire.AppendSnapshotTail(b, 9, "e1", part, parts)
}

func entry(name thing.Name, data string) wire.Entry {
	return wire.Entry{Update: Update{Name: name, Data: []byte(data), TS: 90, Received: 91e6, Seq: 7, ThingSeq: 3}, Doc: []byte(`"http://` + name + `"`)}
}

func names(all []Thing) string {
	var s []string
	for _, one := range all {
		s = append(s, string(one.Name()))
	}
	return strings.Join(s, " ")
}

func TestDirectory(t *testing.T) {
	f := newFake(t, nil)
	d := f.client().Directory()
	d.now = func() time.Time { return time.Unix(100, 5e8) }
	door := d.Thing("shop.door")
	if _, _, ok := door.Data(); ok {
		t.Error("there is data from nowhere")
	}
	if _, err := door.Decode(new(int)); !errors.Is(err, ErrNoData) {
		t.Error(err)
	}
	keep(t, d)
	f.say(1, snapshotLine(1, 1, entry("shop.door", "5"), entry("shop.a-b", "1"), entry("shop.a.b", "2"), entry("lab", "{}")))
	ready(t, d)
	age, data, ok := door.Data()
	if age != 10500*time.Millisecond || string(data) != "5" || !ok {
		t.Errorf("Data gives %v, %s, %v", age, data, ok)
	}
	data[0] = 'x'
	var n int
	if age, err := door.Decode(&n); age != 10500*time.Millisecond || n != 5 || err != nil {
		t.Errorf("Decode gives %v, %d, %v", age, n, err)
	}
	if _, err := door.Decode(new(string)); err == nil || !strings.Contains(err.Error(), `the data of "shop.door"`) {
		t.Error(err)
	}
	want := Entry{Update: Update{Name: "shop.door", Data: []byte("5"), TS: 90, Received: 91e6, Seq: 7, ThingSeq: 3}, Doc: []byte(`"http://shop.door"`)}
	if got, ok := door.Latest(); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("Latest gives %+v", got)
	}
	if url := door.DocumentationURL(); url != "http://shop.door" {
		t.Error(url)
	}
	if got := names(d.Root().Children()); got != "lab shop" {
		t.Error(got)
	}
	if got := names(d.Thing("shop").Children()); got != "shop.a shop.a-b shop.door" {
		t.Error(got)
	}
	var walked []Thing
	for one := range d.Thing("shop").Walk() {
		walked = append(walked, one)
	}
	if got := names(walked); got != "shop shop.a shop.a-b shop.a.b shop.door" {
		t.Error(got)
	}
	if _, _, ok := d.Thing("shop").Data(); ok {
		t.Error("a parent has data")
	}
	if p, ok := door.Parent(); !ok || p != d.Thing("shop") {
		t.Error(p)
	}
	if _, ok := d.Root().Parent(); ok {
		t.Error("there is something above the root")
	}
}

// portResolver finds a broker at each of the ports in turn.
type portResolver chan int

func (r portResolver) LookupSRV(ctx context.Context, _, _, _ string) (string, []*net.SRV, error) {
	select {
	case port := <-r:
		return "", []*net.SRV{{Target: "127.0.0.1.", Port: uint16(port)}}, nil
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
}

func portsClient(t *testing.T, ports chan int) *Client {
	t.Helper()
	c, err := New(Options{Zone: "example.org", Resolver: portResolver(ports)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A snapshot in parts counts when all of them have come, in a row.
func TestDirectoryParts(t *testing.T) {
	f := newFake(t, nil)
	d := f.client().Directory()
	keep(t, d)
	a, b, c := snapshotLine(1, 3, entry("a", "1")), snapshotLine(2, 3, entry("b", "1")), snapshotLine(3, 3, entry("c", "1"))
	bad := []byte(`{"type": "thing_snapshot", "ts": 1.0, "data": {"x": 1, "y": {"ts": 5.0}, "Z": {"data": 1, "ts": 1.0}, "v": {"data": 1, "ts": "now"}, "w": {"data": 1, "ts": 5}}, "seq": 9, "epoch": "e1", "part": 2, "parts": 3}`)
	f.say(1, b, c, a, c, a, bad, []byte("?"), beat(8))
	awaitState(t, d, func(s *DirectoryState) bool { return s.Seq == 8 })
	if s := d.State(); s.Complete || s.Skipped != 4 || s.Unreadable != 1 || !s.Connected || s.Connections != 1 || s.Broker != d.client.URL() {
		t.Errorf("the state is %+v", s)
	}
	if _, data, _ := d.Thing("w").Data(); string(data) != "1" {
		t.Errorf("an integer ts is not taken: %s", data)
	}
	f.say(1, a, b, c)
	ready(t, d)
}

// What a directory has it keeps while there is no broker, and it finds the
// next one by the zone.
func TestDirectoryReconnects(t *testing.T) {
	first, second := newFake(t, nil), newFake(t, nil)
	ports := make(chan int, 2)
	ports <- first.port
	ports <- second.port
	d := portsClient(t, ports).Directory()
	var states []string
	stop := d.OnState(func(s DirectoryState) {
		states = append(states, fmt.Sprintf("%v/%v/%s/%v", s.Connected, s.Complete, s.Epoch, s.Err != nil))
	})
	stop2 := d.OnState(func(DirectoryState) { t.Error("it is called after stop") })
	stop2()
	end := keep(t, d)
	first.say(1, snapshotLine(1, 1, entry("a", "1"), entry("b", "1")))
	ready(t, d)
	first.cut()
	second.awaitSubscribed(3)
	if _, data, ok := d.Thing("a").Data(); !ok || string(data) != "1" {
		t.Errorf("a has %s", data)
	}
	second.say(1, snapshotLine(1, 1, entry("a", "2")), heartbeatLine(wire.Heartbeat{Seq: 9, Epoch: "e2", Degraded: true}))
	awaitState(t, d, func(s *DirectoryState) bool { return s.Degraded })
	for name, want := range map[thing.Name]string{"a": "2", "b": "1"} {
		if _, data, _ := d.Thing(name).Data(); string(data) != want {
			t.Errorf("%s has %s", name, data)
		}
	}
	if s := d.State(); s.Connections != 2 || s.Since.IsZero() {
		t.Errorf("the state is %+v", s)
	}
	stop()
	end()
	if got := strings.Join(states, " "); got != "true/false//false true/true/e1/false false/false/e1/true true/false/e1/false true/true/e1/false true/true/e2/false" {
		t.Error(got)
	}
	if s := d.State(); s.Connected || !errors.Is(s.Err, context.Canceled) {
		t.Errorf("the state is %+v", s)
	}
}

// A directory of a part takes the updates of that, and one snapshot, again
// when something was left out.
func TestDirectoryOf(t *testing.T) {
	f := newFake(t, nil)
	d := f.client().DirectoryOf("shop")
	stop := keep(t, d)
	f.say(1, snapshotLine(1, 1, entry("shop", "1"), entry("shop.a", "1"), entry("shopping", "1")), updateLine(10), beat(11))
	f.awaitSubscribed(5)
	f.say(1, heartbeatLine(wire.Heartbeat{Seq: 20, SkippedFrom: 12, SkippedTo: 20, Skipped: 5}))
	f.awaitSubscribed(6)
	if s := d.State(); s.Complete || s.Overtaken != 5 {
		t.Errorf("the state is %+v", s)
	}
	f.say(1, snapshotLine(1, 1, entry("shop.a", "2")))
	got := f.awaitSubscribed(7)
	want := []string{
		`{"type": "thing_update", "ns": "shop"`, `{"type": "thing_update", "ns": "shop.`,
		wire.SnapshotPrefix, wire.HeartbeatPrefix, "-" + wire.SnapshotPrefix, wire.SnapshotPrefix, "-" + wire.SnapshotPrefix,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("subscribed to %q", got)
	}
	stop()
	var walked []Thing
	for one := range d.Root().Walk() {
		walked = append(walked, one)
	}
	if got := names(walked); got != "shop shop.a shop.door" {
		t.Error(got)
	}
	var invalid *InvalidError
	if err := d.Thing("lab").Err(); !errors.As(err, &invalid) || err.Error() != `"lab" is not in the directory of "shop"` {
		t.Error(err)
	}
	if err := f.client().DirectoryOf("Shop").Run(t.Context()); !errors.As(err, &invalid) {
		t.Error(err)
	}
}

// Without a broker Run ends, and with it those who wait, unless it shall wait.
func TestDirectoryWithoutBroker(t *testing.T) {
	f := newFake(t, nil)
	ports := make(chan int, 3)
	ports <- deadPort(t)
	ports <- deadPort(t)
	ports <- f.port
	d := portsClient(t, ports).Directory()
	waiting := make(chan error, 2)
	go func() { waiting <- d.Ready(t.Context()) }()
	events := d.Root().Events(t.Context())
	go func() {
		for _, err := range events {
			waiting <- err
		}
	}()
	var none *NoBrokerError
	if err := d.Run(t.Context()); !errors.As(err, &none) {
		t.Errorf("Run ends with %v", err)
	}
	for range 2 {
		if err := <-waiting; !errors.As(err, &none) {
			t.Errorf("waiting ends with %v", err)
		}
	}
	keep(t, d, WaitForBroker())
	f.say(1, snapshotLine(1, 1))
	awaitState(t, d, func(s *DirectoryState) bool { return s.Complete })
	ready(t, d)
	if err := d.Run(t.Context()); !errors.Is(err, errRunning) {
		t.Errorf("a second Run: %v", err)
	}
}

// Ready tells why it waits in vain.
func TestDirectoryReadyTells(t *testing.T) {
	ports := make(chan int, 100)
	dead := deadPort(t)
	for range cap(ports) {
		ports <- dead
	}
	d := portsClient(t, ports).Directory()
	keep(t, d, WaitForBroker())
	awaitState(t, d, func(s *DirectoryState) bool { return s.Err != nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var none *NoBrokerError
	if err := d.Ready(ctx); !errors.Is(err, context.Canceled) || !errors.As(err, &none) {
		t.Error(err)
	}
}
