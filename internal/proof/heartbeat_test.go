//go:build proof

package proof

import "testing"

// libzmq's heartbeats are answered on every connection, idle and busy, and
// none is lost over them.
func TestLibzmqHeartbeats(t *testing.T) {
	b, z := startBroker(t), startLibzmq(t)
	heartbeats := options{"HEARTBEAT_IVL": 50, "HEARTBEAT_TIMEOUT": 5000, "HEARTBEAT_TTL": 10000}
	toInput, toFeed, toHistory := startProxy(t, b.addr(inputPort)), startProxy(t, b.addr(feedPort)), startProxy(t, b.addr(historyPort))
	proxies := map[string]*proxy{"input": toInput, "feed": toFeed, "history": toHistory}
	in := z.publisher(b, "in", toInput.url(), heartbeats)
	out := z.open("SUB", "out", toFeed.url(), heartbeats, `{"type": "thing_update"`)
	ask := asker{socket: z.open("DEALER", "ask", toHistory.url(), heartbeats)}
	eventually(t, "the subscriber is there", func() bool { return b.metric("tbhist_subscribers") == 1 })

	pongs := func() (least, all int) {
		least = 1 << 30
		for name, p := range proxies {
			fromBroker, fromPeer := p.only(t)
			n := fromBroker.commands["PONG"]
			if n > fromPeer.commands["PING"] {
				t.Fatalf("%s: %d PONGs to %d PINGs", name, n, fromPeer.commands["PING"])
			}
			least, all = min(least, n), all+n
		}
		return least, all
	}
	const enough = 40
	eventually(t, "PONGs on idle connections", func() bool { least, _ := pongs(); return least >= enough })
	_, idle := pongs()

	// Busy, until as many PONGs have come again between the data.
	before, _ := pongs()
	sent := 0
	for {
		const batch = 1000
		in.publish(sent, batch, 7, 200)
		for i, u := range out.updates(batch) {
			if u.n(t) != sent+i || u.Seq != uint64(sent+i+1) {
				t.Fatalf("update %d arrives as %d with seq %d", sent+i, u.n(t), u.Seq)
			}
		}
		sent += batch
		if lines, _ := ask.all(args{"type": "replay", "after": sent - batch}); len(lines) != batch {
			t.Fatalf("%d updates replayed, not %d", len(lines), batch)
		}
		if least, _ := pongs(); least >= before+enough {
			break
		}
	}
	_, all := pongs()
	for _, s := range []socket{in, out, ask.socket} {
		s.wantUnbroken()
	}
	measured(t, "libzmq heartbeats every 50 ms on 3 connections: %d PONGs idle, %d while %d updates passed, no connection lost", idle, all-idle, sent)
}
