package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"tbhist/internal/access"
	"tbhist/thing"
)

func pack(t testing.TB, ns string, data any) []byte {
	t.Helper()
	p, err := msgpack.Marshal(map[string]any{"type": "thing_update", "ns": ns, "data": data, "ts": 5.5})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestUDP(t *testing.T) {
	b := newBench(t, Options{})
	out := b.udp()
	write := func(p []byte) {
		t.Helper()
		if _, err := out.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	// From an IPv4 peer of a socket that may be dual-stack.
	write(pack(t, "spacemon.electronics", map[string]any{"on": true}))
	if got, want := b.one(), `"spacemon.electronics" {"on":true} null 5.5 from 127.0.0.1/udp`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	// The largest datagram there can be.
	frame := len(pack(t, "a", strings.Repeat("x", 60_000))) - 60_000
	largest := pack(t, "a", strings.Repeat("x", 65_507-frame))
	if len(largest) != 65_507 {
		t.Fatalf("made %d bytes", len(largest))
	}
	write(largest)
	b.take(1, func(_ int, u *thing.Update) {
		if len(u.Data) != 65_507-frame+2 {
			t.Errorf("of 65,507 bytes %d of data arrived", len(u.Data))
		}
	})

	// Bad ones are counted, and good ones behind them taken.
	write(nil)
	write([]byte{0xc1})
	write(pack(t, "Bad", 1))
	write(pack(t, "good", 1))
	if got, want := b.one(), `"good" 1 null 5.5 from 127.0.0.1/udp`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, reason := range []thing.Reason{thing.ReasonEmpty, thing.ReasonNotMsgpack, thing.ReasonNS} {
		if got := b.refusedBy(thing.UDP, reason); got != 1 {
			t.Errorf("%v refused for %v", got, reason)
		}
	}
	if got := b.count("tbhist_updates_accepted_total", "transport=udp"); got != 3 {
		t.Errorf("%v accepted", got)
	}
}

// Many datagrams per wake-up come in order, with sources shared.
func TestUDPBurst(t *testing.T) {
	const n = 200 // fit a receive buffer of the usual size
	b := newBench(t, Options{})
	out := b.udp()
	for i := range n {
		if _, err := out.Write(pack(t, "a", i)); err != nil {
			t.Fatal(err)
		}
	}
	var source *thing.Source
	b.take(n, func(i int, u *thing.Update) {
		if string(u.Data) != fmt.Sprint(i) {
			t.Fatalf("update %d is %s", i, u.Data)
		}
		if source != nil && source != u.Source {
			t.Error("one sender, two sources")
		}
		source = u.Source
	})
}

func TestUDPGuard(t *testing.T) {
	list, err := access.Parse([]string{"192.0.2.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{}
	log := &logBook{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	guarded := make(chan string, 10)
	o.Guard = access.NewGuard(list, access.GuardOptions{
		Flag: "--allow-input", Logger: o.Logger, Refused: func(l string) { guarded <- l },
	})
	b := newBench(t, o)
	out := b.udp()
	for range 3 {
		if _, err := out.Write(pack(t, "a", 1)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if l := <-guarded; l != "udp" {
			t.Errorf("counted for %q", l)
		}
	}
	b.wait("all are counted", func() bool { return b.refusedBy(thing.UDP, thing.ReasonNotAllowed) == 3 })
	if n := b.count("tbhist_updates_accepted_total", "transport=udp"); n != 0 {
		t.Errorf("%v accepted from an address that is not allowed", n)
	}
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], `--allow-input 192.0.2.0/24,127.0.0.1`) {
		t.Errorf("logged %q, want one line with the flag", lines)
	}
	if r := b.Refusals(); len(r) != 1 || r[0].Reason != thing.ReasonNotAllowed || r[0].Suppressed != 2 {
		t.Errorf("remembered %+v", r)
	}
}

func TestUDPEnds(t *testing.T) {
	in := New(Options{})
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.ServeUDP(ctx, conn); err != nil {
		t.Errorf("the end of the context is an error: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := in.ServeUDP(t.Context(), conn); err == nil {
		t.Error("a closed socket is no error")
	}
}

func TestSetReadBuffer(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if granted, err := SetReadBuffer(conn, 32<<10); err != nil || granted != 32<<10 {
		t.Errorf("granted %d of 32768, %v", granted, err)
	}
}
