//go:build proof

package proof

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// How often the broker is killed, and under what load.
const (
	killRounds  = 5
	killThings  = 50
	killRate    = 3000                 // updates a second over ZeroMQ
	killUDP     = 2 * time.Millisecond // between datagrams
	killSeen    = 300                  // updates that are seen in each round before the kill
	killLatest  = 700                  // milliseconds from then to the kill, at most
	killPadding = 150
)

// What a subscriber has seen is in history, byte for byte, and the directory
// is the last of each Thing, at whatever instant the broker is killed.
func TestKill(t *testing.T) {
	b := startBroker(t)
	sender, reader, client := startLibzmq(t), startLibzmq(t), startLibzmq(t)
	soon := options{"RECONNECT_IVL": 20}
	in := sender.publisher(b, "in", b.url(inputPort), soon)
	out := reader.open("SUB", "out", b.url(feedPort), options{"RECONNECT_IVL": 20, "RCVHWM": 0}, `{"type": "thing_update"`)
	eventually(t, "the subscriber is there", func() bool { return b.metric("tbhist_subscribers") == 1 })
	ask := client.asker("DEALER", "ask", b, soon)

	sending, stop := context.WithCancel(t.Context())
	sent := make(chan error, 2)
	go func() { sent <- sendZMQ(sending, in) }()
	go func() { sent <- sendUDP(sending, b.addr(inputPort)) }()
	defer stop()

	c := &keptCheck{t: t, ask: ask}
	var slowest time.Duration
	for range killRounds {
		for seen := 0; seen < killSeen; {
			lines := out.collect(killSeen-seen, 30)
			if len(lines) == 0 {
				t.Fatal("nothing comes")
			}
			seen += len(lines)
			c.seen = append(c.seen, lines...)
		}
		// From here on any instant will do.
		<-time.After(time.Duration(rand.IntN(killLatest*1000)) * time.Microsecond)
		b.kill()
		c.seen = append(c.seen, out.collect(1<<20, 0.2)...)
		began := time.Now()
		b.start()
		slowest = max(slowest, time.Since(began))
		c.check()
	}
	stop()
	for range 2 {
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}

	// At rest, the directory is the last of each Thing.
	accepted := func() float64 {
		return b.metric(`tbhist_updates_accepted_total{transport="zmq"}`) + b.metric(`tbhist_updates_accepted_total{transport="udp"}`)
	}
	for before := -1.0; before != accepted(); {
		before = accepted()
		c.seen = append(c.seen, out.collect(1<<20, 0.5)...)
	}
	c.check()
	replayed, _ := ask.all(args{"type": "replay"})
	if !slices.Equal(replayed, c.kept) {
		t.Errorf("history as a whole, %d lines, is not what it was after each kill, %d lines", len(replayed), len(c.kept))
	}
	last := wantWhole(t, replayed)
	directory, _ := ask.all(args{"type": "directory"})
	wantDirectory(t, directory, last)
	udp := 0
	for ns, u := range last {
		if strings.HasPrefix(ns, "udp.") {
			udp += int(u.ThingSeq)
		}
	}
	if udp == 0 || udp == len(replayed) {
		t.Errorf("%d of %d updates came by UDP", udp, len(replayed))
	}
	measured(t, "%d times SIGKILL under load: %d updates seen, all of them among %d replayed (%d by UDP) byte for byte, no hole, no double; started again in %d ms at most",
		killRounds, c.total, len(replayed), udp, slowest.Milliseconds())
}

// keptCheck compares what was seen with what was kept.
type keptCheck struct {
	t     *testing.T
	ask   asker
	seen  []string // since the last check, in the order in which it came
	total int      // seen before
	last  uint64   // seq of the last that was seen
	kept  []string // history up to the last check
}

// check reads on in history and demands that all that was seen is there, in
// its order.
func (c *keptCheck) check() {
	c.t.Helper()
	lines, _ := c.ask.all(args{"type": "replay", "after": len(c.kept), "page_bytes": 4 << 20})
	c.kept = append(c.kept, lines...)
	for _, line := range c.seen {
		u := parse(c.t, line)
		switch {
		case u.Seq == 0:
			c.t.Fatalf("an update was not kept: %s", line)
		case u.Seq <= c.last:
			c.t.Fatalf("seq %d was seen after seq %d", u.Seq, c.last)
		case u.Seq > uint64(len(c.kept)):
			c.t.Fatalf("seq %d was seen, and history ends with %d", u.Seq, len(c.kept))
		case c.kept[u.Seq-1] != line:
			c.t.Fatalf("seen was\n%s\nand history has\n%s", line, c.kept[u.Seq-1])
		}
		c.last = u.Seq
	}
	c.total += len(c.seen)
	c.seen = nil
}

// sendZMQ publishes until ctx ends.
func sendZMQ(ctx context.Context, in socket) error {
	const batch = killRate / 20
	for n := 0; ctx.Err() == nil; n += batch {
		if err := in.try("publish", args{
			"name": in.name, "first": n, "count": batch, "things": killThings, "size": killPadding, "rate": killRate,
		}, nil); err != nil {
			return err
		}
	}
	return nil
}

// sendUDP sends datagrams until ctx ends.
func sendUDP(ctx context.Context, addr string) error {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := time.NewTicker(killUDP)
	defer tick.Stop()
	for n := 0; ; n++ {
		datagram, err := msgpack.Marshal([]any{[]string{"udp.a", "udp.b"}[n%2], nil, map[string]any{"n": n}, nil})
		if err != nil {
			return err
		}
		_, _ = conn.Write(datagram) // nobody listens between kill and start
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
