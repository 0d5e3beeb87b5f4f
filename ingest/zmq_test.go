package ingest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

func send(t testing.TB, c *zmtp.Conn, frames ...[]byte) {
	t.Helper()
	if err := c.Write(frames...); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

func frame(s string) []byte { return zmtp.AppendFrame(nil, []byte(s), false) }

func TestZMQ(t *testing.T) {
	b := newBench(t, Options{Now: func() time.Time { return time.UnixMicro(1423351104945123) }})
	c := b.publisher(b.zmq(zmtp.Limits{}))
	send(t, c, frame(`{"type": "thing_update", "ns": "spacemon.electronics", "data": {"luminance": 106.090}, "ts": 1423351104.5, "documentation_url": "http://x"}`))
	if got, want := b.one(), `"spacemon.electronics" {"luminance":106.090} "http://x" 1.4233511045e+09 from 127.0.0.1/zmq`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The list form; no ts means the broker's clock.
	send(t, c, frame(`["", null, null, null]`))
	b.take(1, func(_ int, u *thing.Update) {
		if got, want := show(u), `"" null null 1.423351104945123e+09 from 127.0.0.1/zmq`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if u.Received != 1423351104945123 || u.Kept() {
			t.Errorf("received %d, seq %d", u.Received, u.Seq)
		}
	})
	send(t, c, frame(`["a", 1, [NaN, "\ud800"], null]`))
	got := strings.ReplaceAll(b.one(), `\ufffd`, "\uFFFD") // the same in JSON
	if want := `"a" [null,"` + "\uFFFD" + `"] null 1 from 127.0.0.1/zmq`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n, s := b.count("tbhist_updates_normalised_total", "kind=nonfinite"), b.count("tbhist_updates_normalised_total", "kind=surrogate"); n != 1 || s != 1 {
		t.Errorf("counted %v nonfinite, %v surrogates", n, s)
	}
	if n := b.count("tbhist_updates_accepted_total", "transport=zmq"); n != 3 {
		t.Errorf("counted %v accepted", n)
	}
}

// What is refused ends neither the connection nor anything else.
func TestZMQRefusalsAreSurvived(t *testing.T) {
	b := newBench(t, Options{Limits: wire.Limits{MaxBytes: 1000}})
	c := b.publisher(b.zmq(zmtp.Limits{MaxFrame: 2000, MaxOversize: 1 << 20}))
	large := update("a", `"`+strings.Repeat("x", 1000)+`"`)
	larger := update("a", `"`+strings.Repeat("x", 300_000)+`"`)
	var all []byte
	for _, m := range []string{"", "{", `"\xff"`, update("A", "1"), large, larger, update("good", "1")} {
		all = zmtp.AppendFrame(all, []byte(m), false)
	}
	send(t, c, all)
	if got, want := b.one(), `"good" 1 null 5 from 127.0.0.1/zmq`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for reason, want := range map[thing.Reason]float64{
		thing.ReasonEmpty: 1, thing.ReasonNotJSON: 2, thing.ReasonNS: 1, thing.ReasonTooLarge: 2,
	} {
		if got := b.refusedBy(thing.ZMQ, reason); got != want {
			t.Errorf("%v refused for %v, want %v", got, reason, want)
		}
	}
}

func TestZMQMultipart(t *testing.T) {
	b := newBench(t, Options{})
	c := b.publisher(b.zmq(zmtp.Limits{}))
	var all []byte
	all = zmtp.AppendFrame(all, []byte(update("a", "1")), true)
	all = zmtp.AppendFrame(all, []byte("no JSON"), true)
	all = zmtp.AppendFrame(all, []byte(update("b", "2")), false)
	send(t, c, all)
	var got []string
	b.take(2, func(_ int, u *thing.Update) { got = append(got, string(u.Name)) })
	if strings.Join(got, " ") != "a b" || b.refusedBy(thing.ZMQ, thing.ReasonNotJSON) != 1 {
		t.Errorf("of a message of three frames, two good, came %q", got)
	}
}

// A socket of zmq4 as an adaptor has it.
func TestZMQ4Pub(t *testing.T) {
	b := newBench(t, Options{})
	addr := b.zmq(zmtp.Limits{})
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	pub := zmq4.NewPub(ctx)
	defer func() { _ = pub.Close() }()
	if err := pub.Dial("tcp://" + addr); err != nil {
		t.Fatal(err)
	}
	b.wait("zmq4 knows the subscription", func() bool { return len(pub.(zmq4.Topics).Topics()) > 0 })
	for i := range 100 {
		if err := pub.Send(zmq4.NewMsgString(update("zmq4", fmt.Sprint(i)))); err != nil {
			t.Fatal(err)
		}
	}
	b.take(100, func(i int, u *thing.Update) {
		if string(u.Data) != fmt.Sprint(i) {
			t.Errorf("update %d is %s", i, u.Data)
		}
	})
}

// While the batch is full nothing is read; when there is space again it goes
// on, and nothing was lost.
func TestZMQBackpressure(t *testing.T) {
	const n, size = 1500, 20_000 // 30 MB: far more than all socket buffers
	b := newBench(t, Options{QueueUpdates: 64})
	c := b.publisher(b.zmq(zmtp.Limits{}))
	padding := strings.Repeat("x", size)
	sent := make(chan error, 1)
	go func() {
		var buf []byte
		for i := range n {
			buf = zmtp.AppendFrame(buf[:0], []byte(update("a", fmt.Sprintf(`[%d, "%s"]`, i, padding))), false)
			if err := c.Write(buf); err != nil {
				sent <- err
				return
			}
		}
		sent <- c.Flush()
	}()
	b.wait("the input is held back", b.held)
	b.mu.Lock()
	gathered := len(b.gather.Updates)
	b.mu.Unlock()
	if gathered < 64 || gathered > 64+burstItems {
		t.Errorf("%d updates gathered, the limit is 64 and a burst", gathered)
	}
	select {
	case err := <-sent:
		t.Errorf("the peer could send everything while nobody took it: %v", err)
	default:
	}
	b.take(n, func(i int, u *thing.Update) {
		if got, _, _ := strings.Cut(string(u.Data), ","); got != fmt.Sprintf("[%d", i) || len(u.Data) < size {
			t.Fatalf("update %d is %s…, %d bytes", i, got, len(u.Data))
		}
	})
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
