package zmtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestRow06EndlessMultipart(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		for name, part := range map[string][]byte{
			"64 KB parts": AppendFrame(nil, make([]byte, 64000), true),
			"empty parts": AppendFrame(nil, nil, true),
		} {
			before := a.count(refusedTooLarge)
			r := shake(t, a.addr, peerOf(a.role), 0)
			sent := 0
			burst := bytes.Repeat(part, max(1, 60000/len(part)))
			n := allocates(func() {
				for {
					if _, err := r.Write(burst); err != nil {
						break
					}
					if sent += len(burst); sent > 256<<20 {
						t.Fatalf("%s: %d bytes were taken", name, sent)
					}
				}
			})
			_ = r.Close()
			wait(t, name+" are refused", func() bool { return a.count(refusedTooLarge) == before+1 })
			if n > 32<<20 {
				t.Errorf("%s: %d bytes were allocated", name, n)
			}
			check(a.good, a.role)
		}
	})
}

func TestRow07Flags(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		cases := map[string][][]byte{
			"command with MORE":      {{flagCommand | flagMore, 5, 4, 'P', 'I', 'N', 'G'}},
			"long command with MORE": {announce(flagCommand|flagMore, 5)},
			"command without a name": {{flagCommand, 1, 0}},
			"empty command":          {{flagCommand, 0}},
			"command name cut":       {{flagCommand, 2, 5, 'P'}},
		}
		for bit := byte(8); bit != 0; bit <<= 1 {
			cases[fmt.Sprintf("reserved bit %#02x", bit)] = [][]byte{{bit, 1, 'x'}}
			cases[fmt.Sprintf("reserved bit %#02x and others", bit)] = [][]byte{announce(bit|flagMore, 1)}
		}
		a.refuses(t, refusedProtocol, true, cases)
	})
}

func ping(context string) []byte { return appendCommand(nil, "PING", []byte{0, 10}, []byte(context)) }

func TestRow08Ping(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		r := shake(t, a.addr, peerOf(a.role), 1)
		if a.role == Sub {
			if _, body := r.frame(); string(body) != "\x01" {
				t.Fatalf("not the subscription to everything: %q", body)
			}
		}
		before := a.frames.Load()
		for sent, want := range map[string]string{
			string(ping("")):                              "",
			string(ping("c")):                             "c",
			string(ping("0123456789abcdef")):              "0123456789abcdef",
			string(ping("0123456789abcdefXYZ")):           "0123456789abcdef",
			string(appendCommand(nil, "PING")):            "", // zmq4 sends no time to live
			string(appendCommand(nil, "PING", []byte{0})): "",
			string(appendCommand(nil, "NONSENSE", []byte("x"))) + string(ping("after")): "after",
			string(appendCommand(nil, "PONG", []byte("x"))) + string(ping("pong")):      "pong",
		} {
			r.send([]byte(sent))
			if flags, body := r.frame(); flags != flagCommand || string(body) != "\x04PONG"+want {
				t.Errorf("to %q came %d %q", sent, flags, body)
			}
		}
		if n := a.frames.Load() - before; n != 0 {
			t.Errorf("%d PINGs were handed on as messages", n)
		}
		_ = r.Close()
	})
}

// A flood of PINGs is answered as far as the peer takes answers, and a peer
// that takes none is closed without memory having grown.
func TestRow08PingFlood(t *testing.T) {
	l := Limits{WriteDeadline: 200 * time.Millisecond}
	underAttack(t, listenerRoles, l, func(t *testing.T, a *arena) {
		r := shake(t, a.addr, peerOf(a.role), 1)
		flood := bytes.Repeat(ping("0123456789abcdef"), 2000)
		before := heapInUse()
		for i := 0; ; i++ {
			if _, err := r.Write(flood); err != nil {
				break
			}
			if i%50 == 0 {
				if grown := int64(heapInUse()) - int64(before); grown > 4<<20 {
					t.Fatalf("the heap grew by %d bytes", grown)
				}
			}
		}
		_ = r.Close()
		wait(t, "the peer that takes no PONG is gone", func() bool { return a.Conns() == 1 })
	})
}

// Every PING of a peer that takes its PONGs is answered.
func TestRow08EveryPing(t *testing.T) {
	const pings = 20000
	tl := listen(t, ListenerOptions{Role: Router}, serveRole(Router, nil))
	r := shake(t, tl.addr, "REQ", 1)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		r.send(bytes.Repeat(ping("c"), pings))
	}()
	for range pings {
		if flags, body := r.frame(); flags != flagCommand || string(body) != "\x04PONGc" {
			t.Fatalf("%d %q", flags, body)
		}
	}
	<-sent
	_ = r.Close()
}

// PONGs come between the frames of a stream of data, never inside one.
func TestRow08PongBetweenData(t *testing.T) {
	const messages = 20000
	body := bytes.Repeat([]byte("d"), 700)
	tl := listen(t, ListenerOptions{Role: Pub}, func(ctx context.Context, c *Conn) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := c.Read(); err != nil {
					return
				}
			}
		}()
		framed := AppendFrame(nil, body, false)
		for range messages {
			// In pieces: a PONG must not come between them.
			if c.Write(framed[:5], framed[5:300], framed[300:]) != nil {
				break
			}
		}
		_ = c.Flush()
		<-done
	})
	r := shake(t, tl.addr, "SUB", 1)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range 200 {
			r.send(bytes.Repeat(ping("ctx"), 10))
		}
	}()
	pongs := 0
	for n := 0; n < messages || pongs == 0; {
		flags, got := r.frame()
		switch {
		case flags&flagCommand == 0 && bytes.Equal(got, body):
			n++
		case flags == flagCommand && string(got) == "\x04PONGctx":
			pongs++
		default:
			t.Fatalf("flags %d, %q", flags, got)
		}
	}
	<-sent
	_ = r.Close()
}

func TestRow09SubscribeForms(t *testing.T) {
	type event struct {
		kind   Kind
		prefix string
	}
	events := make(chan event, 100)
	tl := listen(t, ListenerOptions{Role: Pub}, serveRole(Pub, func(c *Conn, f Frame) {
		events <- event{f.Kind, string(f.Body)}
	}))
	for _, minor := range []byte{0, 1} {
		r := shake(t, tl.addr, "SUB", minor)
		for _, step := range []struct {
			sent  []byte
			want  event
			hello bool // a subscription that was not there before
		}{
			{message("\x01a"), event{Subscribe, "a"}, true},
			{appendCommand(nil, "SUBSCRIBE", []byte("b")), event{Subscribe, "b"}, true},
			{appendCommand(nil, "SUBSCRIBE", []byte("a")), event{Subscribe, "a"}, false},
			{appendCommand(nil, "CANCEL", []byte("a")), event{Cancel, "a"}, false},
			{message("\x01a"), event{Subscribe, "a"}, false}, // still there
			{message("\x00a"), event{Cancel, "a"}, false},
			{message("\x00a"), event{Cancel, "a"}, false},
			{message("\x00a"), event{Cancel, "a"}, false}, // unknown by now
			{message("\x01a"), event{Subscribe, "a"}, true},
			{appendCommand(nil, "CANCEL", []byte("unknown")), event{Cancel, "unknown"}, false},
			{message("\x01"), event{Subscribe, ""}, true},
			{appendCommand(nil, "SUBSCRIBE"), event{Subscribe, ""}, false},
			{appendCommand(nil, "SUBSCRIBE", bytes.Repeat([]byte("L"), 400)), event{Subscribe, strings.Repeat("L", 400)}, true},
			{AppendFrame(AppendFrame(message("not a subscription"), nil, true), []byte("\x01part"), false), event{}, false},
			{message("\x01end"), event{Subscribe, "end"}, true},
		} {
			r.send(step.sent)
			if step.want.prefix == "" && step.want.kind == Message {
				continue // for nobody
			}
			if got := <-events; got != step.want {
				t.Fatalf("%q gave %v, not %v", step.sent, got, step.want)
			}
			if step.hello {
				if _, body := r.frame(); string(body) != step.want.prefix+"hello" {
					t.Fatalf("after %q: %q", step.sent, body)
				}
			}
		}
		_ = r.Close()
	}
}

func TestRow10Subscriptions(t *testing.T) {
	const each = 64
	underAttack(t, []Role{Pub}, Limits{}, func(t *testing.T, a *arena) {
		for name, sub := range map[string]func(i int) []byte{
			"500,000 prefixes": func(i int) []byte { return message(fmt.Sprintf("\x01prefix %d", i)) },
			"500,000 commands": func(i int) []byte { return appendCommand(nil, "SUBSCRIBE", fmt.Appendf(nil, "prefix %d", i)) },
			"long prefixes": func(i int) []byte {
				return message("\x01" + strings.Repeat("p", 60000) + fmt.Sprint(i))
			},
		} {
			before := a.count(refusedSubscriptions)
			r := shake(t, a.addr, "SUB", 1)
			go func() { _, _ = io.Copy(io.Discard, r.br) }()
			n := allocates(func() {
				for i := 0; i < 500_000; i += each {
					var burst []byte
					for k := range each {
						burst = append(burst, sub(i+k)...)
					}
					if _, err := r.Write(burst); err != nil {
						break
					}
				}
			})
			_ = r.Close()
			wait(t, name+" are refused", func() bool { return a.count(refusedSubscriptions) == before+1 })
			if n > 96<<20 { // most of it this test's own
				t.Errorf("%s: %d bytes were allocated", name, n)
			}
			check(a.good, a.role)
		}
		prefix := append([]byte{1}, make([]byte, 64<<20)...)
		n := allocates(func() {
			a.refuses(t, refusedTooLarge, true, map[string][][]byte{
				"a 64 MiB prefix":            {announce(0, uint64(len(prefix))), prefix},
				"a 64 MiB prefix as command": {announce(flagCommand, uint64(len(prefix))+10), []byte("\x09SUBSCRIBE"), prefix},
			})
		})
		if n > 2<<20 {
			t.Errorf("%d bytes were allocated for 64 MiB prefixes", n)
		}
	})
}

// The same prefix again costs nothing and is no offence.
func TestRow10Duplicates(t *testing.T) {
	underAttack(t, []Role{Pub}, Limits{MaxSubscriptions: 3}, func(t *testing.T, a *arena) {
		r := shake(t, a.addr, "SUB", 0)
		r.send(bytes.Repeat(message("\x01same"), 20000), message("\x01end"))
		if _, body := r.frame(); string(body) != "samehello" {
			t.Fatalf("%q", body)
		}
		if _, body := r.frame(); string(body) != "endhello" {
			t.Fatalf("%q", body)
		}
		_ = r.Close()
	})
}

func TestRow11NeverReads(t *testing.T) {
	closed := make(chan error, 1)
	framed := bytes.Repeat(message(strings.Repeat("u", 200)), 100)
	tl := listen(t, ListenerOptions{Role: Pub, Limits: Limits{WriteDeadline: 300 * time.Millisecond}}, func(_ context.Context, c *Conn) {
		f, err := c.Read()
		if err != nil {
			return
		}
		if string(f.Body) == "good" {
			_ = c.Write(message("served"))
			_ = c.Flush()
			return
		}
		for {
			if err := c.Write(framed); err != nil {
				closed <- err
				return
			}
		}
	})
	r := shake(t, tl.addr, "SUB", 0)
	r.send(message("\x01"))
	for { // others are served until it is closed
		g := shake(t, tl.addr, "SUB", 0)
		g.send(message("\x01good"))
		if _, body := g.frame(); string(body) != "served" {
			t.Fatalf("%q", body)
		}
		_ = g.Close()
		select {
		case err := <-closed:
			if !errors.Is(err, ErrWriteDeadline) {
				t.Errorf("closed with %v", err)
			}
			r.closed("never reads")
			return
		default:
		}
	}
}

func TestRow12PublisherNeverReads(t *testing.T) {
	underAttack(t, []Role{Sub}, Limits{WriteDeadline: 200 * time.Millisecond}, func(t *testing.T, a *arena) {
		r := dialRaw(t, a.addr) // does not even read greeting and READY
		r.send(greeting(0), ready("PUB"))
		before := a.frames.Load()
		burst := bytes.Repeat(message("update"), 1000)
		for range 100 {
			if _, err := r.Write(burst); err != nil {
				t.Fatal(err)
			}
		}
		wait(t, "all messages are read", func() bool { return a.frames.Load() == before+100*1000 })
		_ = r.Close()
	})
}

func TestRow13CutFrames(t *testing.T) {
	underAttack(t, listenerRoles, Limits{}, func(t *testing.T, a *arena) {
		for name, sent := range map[string][]byte{
			"half a header":         {flagLong, 0, 0},
			"one byte":              {0},
			"half a short frame":    message(strings.Repeat("x", 100))[:50],
			"half a long frame":     AppendFrame(nil, make([]byte, 50000), false)[:30000],
			"a frame over a buffer": AppendFrame(nil, make([]byte, 500000), false)[:400000],
			"half a message":        AppendFrame(nil, []byte("first part"), true),
			"half a subscription":   message("\x01prefix")[:5],
			"half a command":        ping("context")[:8],
		} {
			if a.role != Sub && len(sent) > 64<<10 {
				continue // over the limit there
			}
			r := shake(t, a.addr, peerOf(a.role), 0)
			r.send(sent)
			if err := r.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			r.closed(name)
			check(a.good, a.role)
		}
	})
}

func TestRow16SameIdentity(t *testing.T) {
	underAttack(t, []Role{Router}, Limits{}, func(t *testing.T, a *arena) {
		ctx := deadlineContext(t)
		var twins [2]*Conn
		for i := range twins {
			c, err := Dial(ctx, a.addr, DialOptions{Role: Dealer, Identity: "twin"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			twins[i] = c
		}
		for round := range 10 {
			for i, c := range twins {
				question := fmt.Sprintf("question %d of %d", round, i)
				reply, err := Request(ctx, c, []byte(question))
				if err != nil || len(reply) != 1 || string(reply[0]) != question {
					t.Fatalf("twin %d got %q, %v", i, reply, err)
				}
			}
		}
		for i, c := range twins {
			if c.Buffered() != 0 {
				t.Errorf("twin %d got more than its answers", i)
			}
		}
	})
}

func TestRow17Envelopes(t *testing.T) {
	underAttack(t, []Role{Router}, Limits{}, func(t *testing.T, a *arena) {
		frames := func(parts ...string) (b []byte) {
			for i, p := range parts {
				b = AppendFrame(b, []byte(p), i < len(parts)-1)
			}
			return b
		}
		for _, c := range []struct{ sent, want []string }{
			{[]string{"", "body"}, []string{"", "body"}},
			{[]string{"body"}, []string{"body"}},
			{[]string{""}, []string{"", "no body"}},
			{[]string{"a", "", "b"}, []string{"a", "", "b"}},
			{[]string{"a", "b", "", "c", "d"}, []string{"a", "b", "", "c", "d"}},
			{[]string{"", "", "b"}, []string{"", "", "b"}},
			{[]string{"", "b", ""}, []string{"", "b", ""}},
			{[]string{"a", "b"}, []string{"a", "b"}},
			{[]string{"a", ""}, []string{"a", "", "no body"}},
		} {
			for _, kind := range []string{"DEALER", "REQ", "ROUTER"} {
				r := shake(t, a.addr, kind, 0)
				r.send(frames(c.sent...))
				for i, want := range c.want {
					flags, body := r.frame()
					if string(body) != want || flags&flagMore != 0 != (i < len(c.want)-1) {
						t.Errorf("%q: part %d is %q, flags %d, not %q", c.sent, i, body, flags, want)
					}
				}
				_ = r.Close()
			}
		}
	})
}
