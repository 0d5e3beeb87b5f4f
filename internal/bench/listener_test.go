package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// fakeFeed stands in for a broker's feed: it answers a subscription to
// heartbeats with one, and then sends what it is given in small pieces.
func fakeFeed(t *testing.T, bytes []byte) *broker {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(_ context.Context, c *zmtp.Conn) {
		for {
			f, err := c.Read()
			if err != nil {
				t.Errorf("the feed: %v", err)
				return
			}
			if f.Kind == zmtp.Subscribe && string(f.Body) == wire.HeartbeatPrefix {
				break
			}
		}
		heartbeat := wire.AppendHeartbeat(nil, wire.Heartbeat{})
		err := c.Write(zmtp.AppendFrame(nil, heartbeat, false))
		for rest := bytes; err == nil && len(rest) > 0; {
			n := min(len(rest), 1009)
			if err = c.Write(rest[:n]); err == nil {
				err = c.Flush()
			}
			rest = rest[n:]
		}
		if err != nil {
			t.Errorf("the feed: %v", err)
		}
		_, _ = c.Read() // the peer cancels the heartbeat
		_, _ = c.Read() // and ends the connection
	}
	l := zmtp.NewListener(ln, zmtp.ListenerOptions{Name: "feed", Role: zmtp.Pub}, serve)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &broker{port: ln.Addr().(*net.TCPAddr).Port}
}

// line gives an update of seq with so many bytes of data.
func line(seq uint64, data int) []byte {
	return wire.AppendUpdate(nil, &thing.Update{
		Name: "a", Data: fmt.Appendf(nil, `{"seq": %q}`, bytes.Repeat([]byte("x"), data)), Seq: seq, ThingSeq: 9,
	})
}

// feedOf frames the updates of a load, those that keep lets through, short
// ones and long ones, with heartbeats between them.
func feedOf(l *steady, keep func(i int) bool) []byte {
	var framed []byte
	for i := range l.n {
		if keep(i) {
			framed = zmtp.AppendFrame(framed, line(uint64(l.from+i+1), i%500), false)
		}
		if i%100 == 0 {
			framed = zmtp.AppendFrame(framed, wire.AppendHeartbeat(nil, wire.Heartbeat{Seq: uint64(i)}), false)
		}
	}
	return framed
}

// TestCrowdHearsAll holds what a listener of everything counts, and that of
// a stretch with a hole no times are taken.
func TestCrowdHearsAll(t *testing.T) {
	const n, lost = 5003, 2509 // the end of a burst; the last burst is not a whole one
	for _, c := range []struct {
		name string
		keep func(i int) bool
		want int
	}{
		{"all of them", func(int) bool { return true }, n},
		{"one is missing", func(i int) bool { return i != lost }, n - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			load := (&workload{things: 1000}).steady(10_000, n)
			crowd, err := gather(t.Context(), fakeFeed(t, feedOf(load, c.keep)), load, 3, 512, everything)
			if err != nil {
				t.Fatal(err)
			}
			defer crowd.close()
			for _, l := range crowd.listeners {
				crowd.start(l, 0, nil)
			}
			crowd.hearing.Wait()
			if heard, err := heardBy(crowd.listeners); heard != 3*c.want || err != nil {
				t.Errorf("3 heard %d of %d updates each: %v", heard, c.want, err)
			}
			for _, l := range crowd.listeners {
				if l.last != load.end() {
					t.Errorf("the last one heard is %d, not %d", l.last, load.end())
				}
				missed := l.times[lost/load.burst] == 0
				if missed == (c.want == n) {
					t.Errorf("the burst with the hole took %v", l.times[lost/load.burst])
				}
				if l.times[0] <= 0 || l.times[len(l.times)-1] <= 0 {
					t.Error("the first or the last burst has no time")
				}
			}
		})
	}
}

func TestCrowdHearsSome(t *testing.T) {
	const n = 1000
	load := (&workload{things: 1000}).steady(10_000, n)
	br := fakeFeed(t, feedOf(load, func(i int) bool { return i%10 == 3 }))
	crowd, err := gather(t.Context(), br, load, 2, 512, func(int) [][]byte { return only("a") })
	if err != nil {
		t.Fatal(err)
	}
	defer crowd.close()
	for _, l := range crowd.listeners {
		crowd.start(l, n/10, nil)
	}
	crowd.settle()
	if heard, err := heardBy(crowd.listeners); heard != 2*n/10 || err != nil {
		t.Errorf("heard %d of %d: %v", heard, 2*n/10, err)
	}
	if times := timesOf(crowd.listeners, 0, n); len(times) != 2*n/10 {
		t.Errorf("%d times", len(times))
	}
}

// TestCrowdNumbersOfNobody holds that updates that the load does not have
// are found.
func TestCrowdNumbersOfNobody(t *testing.T) {
	load := (&workload{things: 1000}).steady(10_000, 100)
	br := fakeFeed(t, zmtp.AppendFrame(nil, line(load.end()+1, 5), false))
	crowd, err := gather(t.Context(), br, load, 1, 512, everything)
	if err != nil {
		t.Fatal(err)
	}
	defer crowd.close()
	crowd.start(crowd.listeners[0], 1, nil)
	crowd.settle()
	if _, err := heardBy(crowd.listeners); err == nil || !strings.Contains(err.Error(), "nobody sent") {
		t.Errorf("an update that nobody sent: %v", err)
	}
}

func TestSeqOf(t *testing.T) {
	for text, want := range map[string]uint64{
		string(line(1234567, 3)): 1234567,
		`{"type": "thing_update", "data": {"x": 1, "seq": 5}, "seq": 7, "thing_seq": 1}`: 7,
		`{"type": "thing_update", "seq": null, "thing_seq": null, "received": 1.0}`:      0,
		`{"type": "thing_update"}`: 0,
	} {
		if got, err := seqOf([]byte(text)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%s has %d, not %d: %v", text, got, want, err)
		}
	}
}

// TestLastPart holds it against what is sent.
func TestLastPart(t *testing.T) {
	for _, c := range []struct {
		part, parts int
		last        bool
	}{{1, 1, true}, {1, 3, false}, {2, 3, false}, {3, 3, true}, {10, 12, false}} {
		m := append(wire.AppendSnapshotHead(nil, 5), `"a": {"data": {"x": 1, "part": 1, "parts": 2}}`...)
		m = wire.AppendSnapshotTail(m, 9, "da943e57", c.part, c.parts)
		if last, err := lastPart(m); last != c.last || err != nil {
			t.Errorf("%s is the last one: %v, %v", m, last, err)
		}
	}
}

// TestDatagrams holds that datagrams are taken, and are the updates that go
// over ZeroMQ too.
func TestDatagrams(t *testing.T) {
	w := thousand()
	all, err := w.datagrams(1000)
	if err != nil {
		t.Fatal(err)
	}
	d := wire.NewDecoder(wire.Limits{})
	for i, datagram := range all {
		var packed, text wire.Draft
		if _, err := d.Msgpack(nil, datagram, &packed); err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
		if _, err := d.JSON(nil, w.payloads[i], &text); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(packed.NS, text.NS) || packed.TS != text.TS || !bytes.Equal(packed.Doc, text.Doc) {
			t.Fatalf("datagram %d is %s %v %s, not %s", i, packed.NS, packed.TS, packed.Doc, w.payloads[i])
		}
	}
}
