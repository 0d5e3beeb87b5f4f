package publish

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// bareDealer is a DEALER of which the test has each byte in its hand.
type bareDealer struct {
	t  testing.TB
	nc *net.TCPConn
	r  *bufio.Reader
}

func newBareDealer(t testing.TB, addr string) *bareDealer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	d := &bareDealer{t: t, nc: nc.(*net.TCPConn), r: bufio.NewReader(nc)} //nolint:forcetypeassert // it is TCP
	greeting := append(make([]byte, 0, 64), 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0)
	greeting = append(greeting, "NULL"...)
	ready := "\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
	d.send(append(greeting[:64:64], append([]byte{4, byte(len(ready))}, ready...)...))
	if _, err := io.ReadFull(d.r, make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	if flags, _ := d.frame(); flags != 4 {
		t.Fatalf("no READY but %d", flags)
	}
	return d
}

func (d *bareDealer) send(b []byte) {
	d.t.Helper()
	if _, err := d.nc.Write(b); err != nil {
		d.t.Fatal(err)
	}
}

// frame reads a frame; flags is -1 at the end of the stream.
func (d *bareDealer) frame() (flags int, body []byte) {
	d.t.Helper()
	head, err := d.r.Peek(2)
	if errors.Is(err, io.EOF) && len(head) == 0 {
		return -1, nil
	}
	if err != nil {
		d.t.Fatal(err)
	}
	size, long := uint64(head[1]), 2
	if head[0]&2 != 0 {
		if head, err = d.r.Peek(9); err != nil {
			d.t.Fatal(err)
		}
		size, long = binary.BigEndian.Uint64(head[1:]), 9
	}
	flags = int(head[0])
	_, _ = d.r.Discard(long) // they were there
	body = make([]byte, size)
	if _, err := io.ReadFull(d.r, body); err != nil {
		d.t.Fatal(err)
	}
	return flags, body
}

func (d *bareDealer) reply() [][]byte {
	d.t.Helper()
	var frames [][]byte
	for {
		flags, body := d.frame()
		if flags < 0 {
			if len(frames) > 0 {
				d.t.Fatal("an answer was cut")
			}
			return nil
		}
		frames = append(frames, body)
		if flags&1 == 0 {
			return frames
		}
	}
}

// Requests that come without waiting are answered one after the other, each
// whole, also to a peer that has said that it will ask no more.
func TestRequestsAhead(t *testing.T) {
	b := newBroker(t, Options{}, zmtp.Limits{})
	b.commit("a")
	long := make([]thing.Update, 3000)
	data := []byte(`"` + strings.Repeat("long ", 100) + `"`)
	for i := range long {
		long[i] = thing.Update{Name: "b", Data: data, TS: 1, Received: thing.MicrosOf(b.clockNow())}
	}
	if _, err := b.db.Append(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	requests := []string{
		`"type": "replay", "page_bytes": 4194304`,
		`"type": "replay", "ns": "a"`,
		`"type": "nothing"`,
		`"type": "replay", "page_bytes": 4194304, "after": 7`,
		`"type": "replay", "page_bytes": 700`,
		`"type": "refused"`,
		`"type": "directory"`,
		`"type": "replay"`,
	}
	const rounds = 5
	d := newBareDealer(t, b.history)
	var stream []byte
	for i := range rounds * len(requests) {
		stream = zmtp.AppendFrame(stream, fmt.Appendf(nil, `{%s, "id": %d}`, requests[i%len(requests)], i), false)
	}
	d.send(stream)
	if err := d.nc.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	first := map[int]string{}
	for i := range rounds * len(requests) {
		kind := i % len(requests)
		frames := d.reply()
		if frames == nil {
			t.Fatalf("the connection ended before answer %d", i)
		}
		head, lines, err := parseReply(t, frames)
		var refused *wire.ErrorFrame
		switch {
		case errors.As(err, &refused):
			if kind != 2 || string(refused.ID) != fmt.Sprint(i) {
				t.Fatalf("answer %d: %v", i, err)
			}
			continue
		case err != nil || string(head.ID) != fmt.Sprint(i) || kind == 2:
			t.Fatalf("answer %d: %+v, %v", i, head, err)
		}
		if head.Count > 0 && head.Type == wire.TypeReplayPage {
			m, err := wire.ParseMessage([]byte(lines[len(lines)-1]))
			if err != nil || m.Update.Seq != head.Last {
				t.Fatalf("answer %d ends with %v, %v", i, m.Update.Seq, err)
			}
		}
		text := strings.Join(lines, "\n")
		if i < len(requests) {
			first[kind] = text
		} else if text != first[kind] {
			t.Errorf("answer %d is not what it was before", i)
		}
	}
	if frames := d.reply(); frames != nil {
		t.Errorf("one answer too many: %q", frames[0])
	}
	// The connection was ended when all else was over.
	b.answers.mu.Lock()
	defer b.answers.mu.Unlock()
	if len(b.answers.inFlight) != 0 || b.answers.booked != 0 || len(b.answers.byAddr) != 0 {
		t.Errorf("%d answers with %d bytes are left", len(b.answers.inFlight), b.answers.booked)
	}
}

// A peer that has said that it asks no more gets its answers whole, also
// when the last that it said was a command.
func TestRequestsEndWithPing(t *testing.T) {
	b := newBroker(t, Options{}, zmtp.Limits{})
	long := make([]thing.Update, 8000)
	data := []byte(`"` + strings.Repeat("long ", 100) + `"`)
	for i := range long {
		long[i] = thing.Update{Name: "b", Data: data, TS: 1, Received: thing.MicrosOf(b.clockNow())}
	}
	if _, err := b.db.Append(t.Context(), long); err != nil {
		t.Fatal(err)
	}
	d := newBareDealer(t, b.history)
	if err := d.nc.SetReadBuffer(128 << 10); err != nil {
		t.Fatal(err)
	}
	const requests = 4 // more than the network holds
	var stream []byte
	for range requests {
		stream = zmtp.AppendFrame(stream, []byte(`{"type": "replay", "page_bytes": 4194304}`), false)
	}
	d.send(append(stream, "\x04\x07\x04PING\x00\x00"...))
	if err := d.nc.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for answers := 0; answers < requests; {
		flags, _ := d.frame()
		switch {
		case flags < 0:
			t.Fatalf("the connection ended behind %d answers", answers)
		case flags&5 == 0: // the last frame of a message
			answers++
		}
	}
}

// A line that is longer than the page asked for has its room booked; an
// answer ahead for which there is none is made again when its turn has come.
func TestLongLineIsBooked(t *testing.T) {
	b := newBroker(t, Options{}, zmtp.Limits{})
	data := []byte(`"` + strings.Repeat("x", 1<<20-200) + `"`)
	u := thing.Update{Name: "a", Data: data, TS: 1, Received: thing.MicrosOf(b.clockNow())}
	if _, err := b.db.Append(t.Context(), []thing.Update{u, u}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := withTimeout(t)
	defer cancel()
	request := [][]byte{[]byte(`{"type": "replay", "page_bytes": 1}`)}
	remote := netip.MustParseAddr("10.0.0.1")
	ask := func(before *delivery) *asked {
		return &asked{p: b.Publisher, addr: remote, close: func() error { return nil }, before: before}
	}
	var held []*asked
	bytes := 0
	for range addressBytes >> 20 {
		a := ask(nil)
		if a.answer(ctx, request); !a.page {
			a.done()
			break
		}
		bytes += a.lines.held()
		held = append(held, a)
	}
	if len(held) < 2 || b.answers.booked < bytes {
		t.Errorf("%d answers, %d bytes booked of %d", len(held), b.answers.booked, bytes)
	}
	for range 2 {
		a := ask(nil)
		if a.answer(ctx, request); a.page || a.lines.held() != 0 {
			t.Error("an address has more than it may")
		}
		a.done()
	}
	before := &delivery{done: make(chan struct{})}
	ahead, made := ask(before), make(chan struct{})
	go func() {
		defer close(made)
		ahead.answer(ctx, request)
	}()
	for _, a := range held {
		a.done()
	}
	close(before.done)
	if <-made; !ahead.page {
		t.Error("an answer ahead was not made again")
	}
	ahead.done()
	if b.answers.booked != 0 || len(b.answers.byAddr) != 0 || len(b.answers.inFlight) != 0 {
		t.Errorf("%d bytes are left", b.answers.booked)
	}
}

// Room for an answer ahead is what nobody else needs: half of all, and never
// more than an address may have. It is not waited for.
func TestRoomAhead(t *testing.T) {
	var a answers
	a.init()
	const size, less = addressBytes / 2, addressBytes / 6
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	ctx, cancel := withTimeout(t)
	defer cancel()
	first, err := a.take(ctx, addr(1), size, nil)
	if err != nil {
		t.Fatal(err)
	}
	ahead := a.takeAhead(addr(1), size, nil)
	if ahead == nil {
		t.Fatal("no room ahead while there is much")
	}
	if a.takeAhead(addr(1), 1, nil) != nil {
		t.Error("an address has more than it may")
	}
	second, err := a.take(ctx, addr(2), less, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.takeAhead(addr(2), less, nil) != nil {
		t.Error("room ahead beyond half of all")
	}
	a.give(ahead)
	if ahead = a.takeAhead(addr(2), less, nil); ahead == nil {
		t.Error("what was given back is not there")
	}
	a.shrink(first, 100)
	a.shrink(first, 200) // not more than it has
	if first.bytes != 100 || a.byAddr[addr(1)] != 100 {
		t.Errorf("%d bytes are booked for one that was made smaller", a.byAddr[addr(1)])
	}
	for _, an := range []*answer{first, ahead, second} {
		a.give(an)
	}
	if a.booked != 0 || len(a.byAddr) != 0 || len(a.inFlight) != 0 || !a.room.TryAcquire(answerBytes) {
		t.Errorf("%d bytes are left", a.booked)
	}
}
