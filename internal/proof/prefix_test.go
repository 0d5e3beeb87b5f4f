//go:build proof

package proof

import (
	"fmt"
	"slices"
	"testing"
)

// A subscription by prefix gets its subtree, and nothing else goes over the
// network to it: every byte that the broker sends is looked at.
func TestPrefixOnTheWire(t *testing.T) {
	b, z := startBroker(t), startLibzmq(t)
	proxied := startProxy(t, b.addr(feedPort))
	in := z.publisher(b, "in", b.url(inputPort), nil)
	all := z.open("SUB", "all", b.url(feedPort), nil, `{"type": "thing_update"`)
	sub := z.open("SUB", "subtree", proxied.url(), nil,
		`{"type": "thing_update", "ns": "shop"`, `{"type": "thing_update", "ns": "shop.`)
	eventually(t, "both subscribers are there", func() bool { return b.metric("tbhist_subscribers") == 2 })

	const rounds = 400
	inside := []string{"shop", "shop.bot", "shop.bot.arm", "shop.shop"}
	outside := []string{"", "sho", "shopping", "shop-x", "shop_x.shop", "a.shop", "spacemon.electronics"}
	for range rounds {
		var frames [][]byte
		for _, ns := range append(slices.Clone(outside), inside...) {
			frames = append(frames, fmt.Appendf(nil, `["%s", null, "shop. \"ns\": \"shop\"", null]`, ns))
		}
		in.send(frames...)
	}
	everything := all.updates(rounds * (len(inside) + len(outside)))
	got := sub.updates(rounds * len(inside))

	// One more of each side, so that what wrongly followed would be there.
	in.send([]byte(`["shopping", null, "end", null]`), []byte(`["shop", null, "end", null]`))
	got = append(got, sub.updates(1)...)
	everything = append(everything, all.updates(2)...)

	var want []string
	size, sizeOfAll := 0, 0
	for _, u := range everything {
		sizeOfAll += len(u.line)
		if slices.Contains(inside, u.NS) {
			want = append(want, u.line)
			size += len(u.line)
		}
	}
	var lines []string
	for _, u := range got {
		lines = append(lines, u.line)
	}
	if !slices.Equal(lines, want) {
		t.Fatalf("the subtree got %d updates, not the %d of it", len(lines), len(want))
	}
	wire, _ := proxied.only(t)
	if !slices.Equal(wire.messages, want) {
		t.Errorf("the broker sent %d messages, not the %d of the subtree", len(wire.messages), len(want))
	}
	if wire.rest != 0 || wire.bytes != wire.framing+size {
		t.Errorf("the broker sent %d bytes, which are not %d of updates, %d of framing", wire.bytes, size, wire.framing)
	}
	for command := range wire.commands {
		if command != "READY" && command != "PING" {
			t.Errorf("the broker sent the command %s", command)
		}
	}
	sub.wantUnbroken()
	measured(t, "prefix subscription: %d of %d updates; the broker sent %d bytes: %d of these updates, %d of framing, and nothing of the other %d bytes",
		len(want), len(everything), wire.bytes, size, wire.framing, sizeOfAll-size)
}
