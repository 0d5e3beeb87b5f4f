//go:build proof

package proof

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

var (
	zmqPorts    = []int{feedPort, inputPort, historyPort}
	onFeed      = []int{feedPort}
	onInput     = []int{inputPort}
	onHistory   = []int{historyPort}
	takesBodies = []int{inputPort, historyPort}
)

// zmqAttacks are the rows of docs/PROTOCOL.md, What a listener must
// withstand. Row 14 is made of all together, row 15 has a test of its own.
var zmqAttacks = []attack{
	{name: "nothing said", row: 1, at: zmqPorts, holds: true, do: func(h *hostile) { h.dial().isRefused() }},
	{name: "part of a greeting", row: 1, at: zmqPorts, holds: true, do: func(h *hostile) {
		c := h.dial()
		c.say(greeting(0)[:1+rand.IntN(63)])
		c.isRefused()
	}},
	{name: "a greeting alone", row: 1, at: zmqPorts, holds: true, do: func(h *hostile) {
		c := h.dial()
		c.say(greeting(1))
		c.isRefused()
	}},
	{name: "a greeting byte by byte", row: 1, at: zmqPorts, holds: true, do: func(h *hostile) {
		c := h.dial()
		c.drip(append(greeting(1), readyAs(peerType[h.port])...), 100*time.Millisecond)
		c.isRefused()
	}},
	{name: "an HTTP request", row: 2, at: zmqPorts, do: func(h *hostile) {
		c := h.dial()
		c.say([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		c.isRefused()
	}},
	{name: "random bytes", row: 2, at: zmqPorts, do: func(h *hostile) {
		b := make([]byte, 2+rand.IntN(400))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		b[0] &= 0x7f // a greeting's first byte would be waited behind
		c := h.dial()
		c.say(b)
		c.isRefused()
	}},
	{name: "ZMTP 2.0", row: 2, at: zmqPorts, do: func(h *hostile) {
		c := h.dial()
		c.say(greeting(0)[:10], []byte{1, 1})
		c.isRefused()
	}},
	{name: "a broken READY", row: 3, at: zmqPorts, do: func(h *hostile) {
		kind := property("Socket-Type", peerType[h.port])
		c := h.dial()
		c.say(greeting(0), oneOf(
			command("READY"),
			command("READY", property("Identity", "")),
			command("READY", kind[:len(kind)-1]),
			command("READY", kind[:5]),
			command("READY", "\x0bSocket-Type\x7f\xff\xff\xff", peerType[h.port]),
			command("READY", "\x01a\xff\xff\xff\xff"),
			command("READY", kind, kind),
			command("READY", kind, property("Identity", strings.Repeat("i", 256))),
			[]byte{flagCommand, 0},
			[]byte{flagCommand, 2, 9, 'R'},
			single("READY"),
		))
		c.isRefused()
	}},
	{name: "a wrong socket type", row: 4, at: zmqPorts, do: func(h *hostile) {
		c := h.dial()
		c.say(greeting(0), readyAs(oneOf("", "NONSENSE", "PUSH", "PAIR", "sub", strings.Repeat("x", 250))))
		c.isRefused()
	}},
	{name: "a huge frame before the handshake", row: 5, at: zmqPorts, do: func(h *hostile) {
		c := h.dial()
		c.say(greeting(0), announced(flagCommand, hugeSize()), []byte("some of it"))
		c.isRefused()
	}},
	{name: "a huge frame", row: 5, at: zmqPorts, do: func(h *hostile) {
		c := h.shake()
		c.say(announced(oneOf[byte](0, flagMore, flagCommand), hugeSize()), []byte("some of it"))
		c.isRefused()
	}},
	{name: "endless multipart", row: 6, at: zmqPorts, do: func(h *hostile) {
		part := oneOf(multi(strings.Repeat("x", 64000), ""), multi("", ""))
		part = bytes.Repeat(part[:len(part)-2], max(1, 64000/len(part)))
		c := h.shake()
		for sent := 0; c.say(part); sent += len(part) {
			if sent > 256*mib {
				h.fails("%d bytes of one message are taken", sent)
			}
		}
		c.isRefused()
	}},
	{name: "wrong flags", row: 7, at: zmqPorts, do: func(h *hostile) {
		c := h.shake()
		c.say(oneOf(
			[]byte{flagCommand | flagMore, 5, 4, 'P', 'I', 'N', 'G'}, announced(flagCommand|flagMore, 5),
			[]byte{8, 1, 'x'}, announced(0x80, 1), []byte{flagCommand, 0}, []byte{flagCommand, 2, 5, 'P'},
		))
		c.isRefused()
	}},
	{name: "PINGs", row: 8, at: zmqPorts, do: func(h *hostile) {
		c := h.shake()
		if h.port == inputPort {
			if parts := c.message(); parts[0] != "\x01" {
				h.fails("the input begins with %q", parts)
			}
		}
		for _, context := range []string{"", "c", "0123456789abcdef", "0123456789abcdefXYZ"} {
			c.say(command("PING", "\x00\x0a", context))
			want := "\x04PONG" + context[:min(16, len(context))]
			if flags, body := c.frame(); flags != flagCommand || string(body) != want {
				h.fails("a PING with context %q is answered with %d %q", context, flags, body)
			}
		}
	}},
	{name: "a flood of PINGs, no PONG taken", row: 8, at: zmqPorts, holds: true, do: func(h *hostile) {
		c := h.shake()
		// The kernel takes a little now and then, and each time the write
		// deadline begins anew.
		_ = c.SetDeadline(time.Now().Add(5 * lasting))
		flood := bytes.Repeat(command("PING", "\x00\x0a", "0123456789abcdef"), 2000)
		for range 200 { // or until it is not taken any more
			if !c.say(flood) {
				return
			}
		}
		c.hold()
	}},
	{name: "subscriptions of both forms", row: 9, at: onFeed, do: func(h *hostile) {
		c := h.shake()
		beat := `{"type": "thing_heartbeat"`
		c.say(single("\x00unknown", "\x01"+beat, "\x01"+beat), command("CANCEL", "unknown"), command("SUBSCRIBE", beat), command("CANCEL", beat))
		if parts := c.message(); !strings.HasPrefix(parts[0], beat) {
			h.fails("instead of a heartbeat comes %.100q", parts)
		}
	}},
	{name: "500,000 prefixes", row: 10, at: onFeed, do: func(h *hostile) {
		c := h.shake()
		long := oneOf("", strings.Repeat("p", 30000))
		for i := 0; i < 500_000; i++ {
			if !c.say(oneOf(single(fmt.Sprint("\x01", long, i)), command("SUBSCRIBE", long, fmt.Sprint(i)))) {
				break
			}
		}
		c.isRefused()
	}},
	{name: "a prefix of 64 MiB", row: 10, at: onFeed, do: func(h *hostile) {
		c := h.shake()
		c.say(announced(oneOf[byte](0, flagCommand), 64*mib), bytes.Repeat([]byte{1}, 100_000))
		c.isRefused()
	}},
	{name: "as many prefixes as may be", row: 10, at: onFeed, holds: true, do: func(h *hostile) {
		c := h.shake()
		var all []byte
		for i := range 4000 {
			all = append(all, single(fmt.Sprintf("\x01%s%0100d", oneOf("", `{"type": "thing_update", "ns": "`), i))...)
		}
		h.perhaps = true // all together they may be too many
		if c.say(all) {
			c.hold()
		}
	}},
	{name: "a subscriber that never reads", row: 11, at: onFeed, holds: true, do: func(h *hostile) {
		c := h.shake()
		c.say(single("\x01"))
		c.hold()
	}},
	{name: "a subscriber that hardly reads", row: 11, at: onFeed, holds: true, do: func(h *hostile) {
		c := h.shake()
		c.say(single("\x01"))
		c.trickle(200)
	}},
	{name: "a publisher that never reads", row: 12, at: onInput, do: func(h *hostile) {
		c := h.dial()
		c.say(greeting(0), readyAs("PUB"))
		update := single(`{"type": "thing_update", "ns": "hostile.mute", "data": null}`)
		if !c.say(bytes.Repeat(update, 20)) {
			h.fails("the connection is closed")
		}
		h.updates.Add(20)
		c.halfClose()
	}},
	{name: "a frame cut by the end", row: 13, at: zmqPorts, do: func(h *hostile) {
		c := h.shake()
		c.say(oneOf([]byte{flagLong, 0, 0}, []byte{0}, single(strings.Repeat("x", 100))[:50],
			append(announced(0, 60000), make([]byte, 30000)...), append(announced(flagMore, 500_000), make([]byte, 400_000)...),
			multi("first part", "")[:12], single("\x01prefix")[:5], command("PING", "\x00\x00")[:5]))
		c.halfClose()
	}},
	{name: "the middle of a frame", row: 13, at: zmqPorts, holds: true, do: func(h *hostile) {
		c := h.shake()
		c.say(announced(0, 65000), make([]byte, 64000))
		c.hold()
	}},
	{name: "the middle of a large frame", row: 13, at: zmqPorts, holds: true, do: func(h *hostile) {
		c := h.shake()
		h.perhaps = true // the broker waits with it until there is room
		size := map[int]int{feedPort: 512 << 10, inputPort: mib, historyPort: 1536 << 10}[h.port]
		if c.say(announced(0, uint64(size)), make([]byte, size-1)) {
			c.hold()
		}
	}},
	{name: "a large frame byte by byte", row: 13, at: zmqPorts, holds: true, do: func(h *hostile) {
		c := h.shake()
		h.perhaps = true
		c.say(announced(0, 512<<10), make([]byte, 100_000))
		c.drip(make([]byte, 100+rand.IntN(200)), 100*time.Millisecond)
	}},
	{name: "a frame to be read past, slowly", row: 5, at: takesBodies, holds: true, do: func(h *hostile) {
		c := h.shake()
		h.perhaps = true
		c.say(announced(0, 8*mib), make([]byte, 100_000))
		c.drip(make([]byte, 100+rand.IntN(200)), 100*time.Millisecond)
	}},
	{name: "a message of which the end does not come", row: 6, at: onHistory, holds: true, do: func(h *hostile) {
		c := h.shake()
		h.perhaps = true
		part := strings.Repeat("x", oneOf(60_000, 800_000))
		if c.say(bytes.Repeat(append(announced(flagMore, uint64(len(part))), part...), 1_500_000/len(part))) {
			c.hold()
		}
	}},
	{name: "a large request behind an answer that is hardly taken", row: 6, at: onHistory, holds: true, do: func(h *hostile) {
		c := h.shake()
		h.perhaps = true
		if c.say(multi("", largePage), multi("", `{"type": "replay", "ns": "`+strings.Repeat("x", 1_400_000)+`"}`)) {
			c.trickle(500)
		}
	}},
	{name: "two with one identity", row: 16, at: onHistory, do: func(h *hostile) {
		var twins [2]*badConn
		for i := range twins {
			twins[i] = h.dial()
			twins[i].say(greeting(0), command("READY", property("Socket-Type", "DEALER"), property("Identity", "twin")))
			twins[i].shaken()
		}
		for round := range 5 {
			for i, c := range twins {
				c.say(multi("", fmt.Sprintf(`{"type": "directory", "ns": "no.such", "id": %d}`, 10*round+i)))
			}
			for i, c := range twins {
				if parts := c.message(); !strings.Contains(parts[1], fmt.Sprintf(`"id": %d`, 10*round+i)) {
					h.fails("twin %d is answered with %q", i, parts)
				}
			}
		}
	}},
	{name: "odd envelopes", row: 17, at: onHistory, do: func(h *hostile) {
		c := h.shakeAs(oneOf("DEALER", "REQ", "ROUTER"), 0)
		const request = `{"type": "directory", "ns": "no.such", "id": "a"}`
		for _, e := range []struct {
			sent     []string
			envelope []string
			ok       bool
		}{
			{[]string{"", request}, []string{""}, true},
			{[]string{request}, nil, true},
			{[]string{""}, []string{""}, false},
			{[]string{"a", "", request}, []string{"a", ""}, true},
			{[]string{"a", "b", "", request, "c"}, []string{"a", "b", ""}, false},
			{[]string{"a", request}, nil, false},
		} {
			c.say(multi(e.sent...))
			parts := c.message()
			n := len(e.envelope)
			if len(parts) <= n || strings.Join(parts[:n], "|") != strings.Join(e.envelope, "|") ||
				strings.HasPrefix(parts[n], `{"type": "directory_page"`) != e.ok && !strings.Contains(parts[n], `"code": "busy"`) {
				h.fails("%q is answered with %.200q", e.sent, parts)
			}
		}
	}},
	{name: "requests that are none", row: 17, at: onHistory, do: func(h *hostile) {
		c := h.shake()
		c.say(multi("", oneOf("", "{", "[]", `{"type": "replay", "limit": 0}`, `{"type": "replay", "cursor": "AAAA"}`,
			strings.Repeat("[", 60000), strings.Repeat(" ", 3*mib))))
		if parts := c.message(); len(parts) != 2 || !strings.HasPrefix(parts[1], `{"type": "error"`) {
			h.fails("answered with %.200q", parts)
		}
	}},
	{name: "answers that are not taken", row: 11, at: onHistory, holds: true, do: func(h *hostile) {
		c := h.shake()
		h.perhaps = true
		if c.say(bytes.Repeat(multi("", oneOf(largePage, `{"type": "directory", "wide": true, "page_bytes": 4194304}`)), 20)) {
			c.hold()
		}
	}},
	{name: "answers that are hardly taken", row: 11, at: onHistory, holds: true, do: func(h *hostile) {
		c := h.shake()
		c.say(bytes.Repeat(multi("", largePage), 3))
		c.trickle(500)
	}},
}

const largePage = `{"type": "replay", "page_bytes": 4194304}`

func oneOf[T any](all ...T) T { return all[rand.IntN(len(all))] }

func hugeSize() uint64 { return oneOf[uint64](1<<62, 1<<46, 1<<40, 8<<30, 1<<64-1) }

// flood sends a bad datagram at each tick until all is over, and counts them:
// each is refused, or dropped by the kernel and counted there.
func (hs *hostiles) flood(pause time.Duration) {
	hs.done.Go(func() {
		conn, err := net.Dial("udp", hs.b.addr(inputPort))
		if err != nil {
			hs.t.Error(err)
			return
		}
		defer conn.Close()
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			random := make([]byte, 1+rand.IntN(300))
			for i := range random {
				random[i] = byte(rand.Uint32())
			}
			random[0] = 0xc1 // never used by msgpack
			_, err := conn.Write(oneOf(nil, random, []byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 65507),
				bytes.Repeat([]byte{0x91}, 60000), []byte("\xdd\xff\xff\xff\xff"), []byte("\x94\xa1A\xc0\xc0\xc0"), []byte("\xdf\xff\xff\xff\xff\xa2ns")))
			if err != nil {
				hs.t.Errorf("sending a datagram: %v", err)
				return
			}
			hs.packets.Add(1)
			select {
			case <-tick.C:
			case <-hs.ctx.Done():
				return
			}
		}
	})
}
