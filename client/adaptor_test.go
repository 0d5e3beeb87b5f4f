package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// inputOf is an input that the test can end and start again on its port.
type inputOf struct {
	t    *testing.T
	addr string
	got  chan string
	stop func()
}

// newInput reserves a port; run begins to listen.
func newInput(t *testing.T) *inputOf {
	t.Helper()
	// The port before it must be a valid main port, no more.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := &inputOf{t: t, addr: ln.Addr().String(), got: make(chan string, 10000)}
	in.listen(ln)
	t.Cleanup(func() { in.stop() })
	return in
}

// again listens again after stop.
func (in *inputOf) again() {
	in.t.Helper()
	ln, err := net.Listen("tcp", in.addr)
	if err != nil {
		in.t.Fatal(err)
	}
	in.listen(ln)
}

func (in *inputOf) listen(ln net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l := zmtp.NewListener(ln, zmtp.ListenerOptions{Name: "input", Role: zmtp.Sub}, func(_ context.Context, c *zmtp.Conn) {
		if c.Subscribe(nil) != nil {
			return
		}
		for {
			f, err := c.Read()
			if err != nil {
				return
			}
			in.got <- string(f.Body)
		}
	})
	go func() { ended <- l.Run(ctx) }()
	in.stop = func() {
		in.stop = func() {}
		cancel()
		if err := <-ended; err != nil {
			in.t.Error(err)
		}
	}
}

func (in *inputOf) next() string {
	in.t.Helper()
	select {
	case m := <-in.got:
		return m
	case <-time.After(patience):
		in.t.Fatal("nothing comes")
		return ""
	}
}

func (in *inputOf) client() *Client {
	in.t.Helper()
	a, err := net.ResolveTCPAddr("tcp", in.addr)
	if err != nil {
		in.t.Fatal(err)
	}
	c, err := New(Options{Broker: fmt.Sprintf("127.0.0.1:%d", a.Port-InputOffset), DialTimeout: patience})
	if err != nil {
		in.t.Fatal(err)
	}
	return c
}

func (in *inputOf) adaptor(o AdaptorOptions) *Adaptor {
	in.t.Helper()
	a, err := in.client().NewAdaptor(o)
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { closeAtOnce(a) })
	return a
}

// closeAtOnce gives up what is queued.
func closeAtOnce(a *Adaptor) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = a.Close(ended) // what is left is of no interest
}

func closeWell(t *testing.T, a *Adaptor) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// The recorded cases of the original's adaptor: order and values on the wire.
func TestAdaptorConformance(t *testing.T) {
	f, err := os.Open("testdata/adaptor.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	order := regexp.MustCompile(`^\{"type": .*?, "ns": .*?, "documentation_url": .*?, "data": .*?, "ts": -?\d+[.e]`)
	cases := 0
	for lines := bufio.NewScanner(f); lines.Scan(); cases++ {
		var c struct {
			Name        string
			Ctor        [2]string
			Send        [2]json.RawMessage
			Wire        string
			SendRaises  string `json:"send_raises"`
			CtorRaises  string `json:"ctor_raises"`
			ThreadAlive bool   `json:"adaptor_thread_alive"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, func(t *testing.T) {
			in := newInput(t)
			var invalid *InvalidError
			a, err := in.client().NewAdaptor(AdaptorOptions{Namespace: thing.Name(c.Ctor[0]), DocumentationURL: c.Ctor[1]})
			if c.CtorRaises != "" {
				if !errors.As(err, &invalid) {
					t.Errorf("NewAdaptor: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer closeAtOnce(a)
			var positional []json.RawMessage
			var named struct{ NS *thing.Name }
			if err := errors.Join(json.Unmarshal(c.Send[0], &positional), json.Unmarshal(c.Send[1], &named)); err != nil {
				t.Fatal(err)
			}
			var opts []SendOption
			if named.NS != nil {
				opts = append(opts, Below(*named.NS))
			}
			before := thing.MicrosOf(time.Now()).Seconds()
			err = a.Send(t.Context(), positional[0], opts...)
			if c.SendRaises != "" {
				if !errors.As(err, &invalid) {
					t.Errorf("Send: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := in.next()
			if !order.MatchString(got) {
				t.Errorf("another order, or another form of ts: %s", got)
			}
			var sent, want map[string]any
			if err := errors.Join(json.Unmarshal([]byte(got), &sent),
				json.Unmarshal([]byte(strings.Replace(c.Wire, "<TS>", "0", 1)), &want)); err != nil {
				t.Fatal(err)
			}
			if ts, ok := sent["ts"].(float64); !ok || ts < before || ts > thing.MicrosOf(time.Now()).Seconds() {
				t.Errorf("ts is %v", sent["ts"])
			}
			want["ts"] = sent["ts"]
			if !reflect.DeepEqual(sent, want) {
				t.Errorf("sent %s\nwant %s", got, c.Wire)
			}
		})
	}
	if cases == 0 {
		t.Error("no cases")
	}
}

func TestAdaptorOptionsOfSend(t *testing.T) {
	in := newInput(t)
	a := in.adaptor(AdaptorOptions{})
	if err := a.Send(t.Context(), map[string]any{"a": "<&>"}, Below("shop.door"), TakenAt(time.Unix(5, 0))); err != nil {
		t.Fatal(err)
	}
	if got, want := in.next(), `{"type": "thing_update", "ns": "shop.door", "documentation_url": null, "data": {"a":"<&>"}, "ts": 5.0}`; got != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
	ts := 5.25
	if err := a.SendMessage(t.Context(), Message{Data: []byte("1"), Doc: []byte(`"d"`), TS: &ts}); err != nil {
		t.Fatal(err)
	}
	if got, want := in.next(), `{"type": "thing_update", "ns": "", "documentation_url": "d", "data": 1, "ts": 5.25}`; got != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
	closeWell(t, a)
	if err := a.Send(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// What can be sent to no broker is an error of Send, and nothing of it goes
// out.
func TestAdaptorInvalid(t *testing.T) {
	in := newInput(t)
	for _, udp := range []bool{false, true} {
		a := in.adaptor(AdaptorOptions{Namespace: "shop", UDP: udp})
		far := 1e12
		for name, err := range map[string]error{
			"NaN":      a.Send(t.Context(), math.NaN()),
			"channel":  a.Send(t.Context(), make(chan int)),
			"name":     a.Send(t.Context(), 1, Below("Door")),
			"large":    a.Send(t.Context(), strings.Repeat("x", 2<<20)),
			"time":     a.SendMessage(t.Context(), Message{Data: []byte("1"), TS: &far}),
			"not JSON": a.SendMessage(t.Context(), Message{Data: []byte("x")}),
		} {
			if invalid := (*InvalidError)(nil); !errors.As(err, &invalid) {
				t.Errorf("UDP %v, %s: %v", udp, name, err)
			}
		}
		if s := a.Stats(); s.Queued != 0 || s.Sent != 0 {
			t.Errorf("something was queued: %+v", s)
		}
	}
	a := in.adaptor(AdaptorOptions{UDP: true})
	for name, data := range map[string]any{"datagram": strings.Repeat("x", 70000), "integer": json.RawMessage("123456789012345678901234567890")} {
		if err := a.Send(t.Context(), data); err == nil {
			t.Errorf("%s was taken over UDP", name)
		}
	}
}

// A broker that is away, and one that is started again: nothing is lost that
// was sent while nobody listened, and all is in order.
func TestAdaptorReconnects(t *testing.T) {
	in := newInput(t)
	in.stop()
	a := in.adaptor(AdaptorOptions{Queue: 10})
	for i := range 10 {
		if err := a.Send(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	in.again()
	expect := func(i int) {
		t.Helper()
		if got := in.next(); !strings.Contains(got, fmt.Sprintf(`"data": %d, `, i)) {
			t.Fatalf("got %s, want %d", got, i)
		}
	}
	for i := range 10 {
		expect(i)
	}
	in.stop()
	// Until the end of the connection is seen, the network takes what is
	// written and loses it.
	for a.Stats().Connected {
		if _, err := net.DialTimeout("tcp", in.addr, time.Second); err == nil {
			t.Fatal("somebody listens")
		}
	}
	for i := 10; i < 20; i++ {
		if err := a.Send(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	in.again()
	for i := 10; i < 20; i++ {
		expect(i)
	}
	closeWell(t, a)
	if s := a.Stats(); s.Sent != 20 || s.Connections != 2 || s.Dropped != 0 || s.Connected || s.Queued != 0 {
		t.Errorf("stats: %+v", s)
	}
}

// Sent right after construction and closed at once: all arrives.
func TestAdaptorCloseDrains(t *testing.T) {
	in := newInput(t)
	a := in.adaptor(AdaptorOptions{})
	const n = 2000
	for i := range n {
		if err := a.Send(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	closeWell(t, a)
	closeWell(t, a)
	// The other side had read everything before it closed.
	if got := len(in.got); got != n {
		t.Errorf("%d of %d have arrived when Close returns", got, n)
	}
}

func TestAdaptorCloseTellsWhatIsLeft(t *testing.T) {
	in := newInput(t)
	in.stop()
	a := in.adaptor(AdaptorOptions{})
	for i := range 3 {
		if err := a.Send(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for range 2 {
		var unsent *UnsentError
		if err := a.Close(ended); !errors.As(err, &unsent) || unsent.Messages != 3 || !errors.Is(err, context.Canceled) {
			t.Errorf("Close: %v", err)
		}
	}
	// With nothing queued there is nothing to wait for.
	closeWell(t, in.adaptor(AdaptorOptions{}))
}

// resetting is a listener whose connections do not end well.
type resetting struct{ net.Listener }

func (l resetting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		err = errors.Join(err, tcp.SetLinger(0))
	}
	return conn, err
}

// A connection that is reset in the end leaves it open whether the broker has
// read what was written. Where nothing was, there is nothing to tell.
func TestAdaptorCloseUnsure(t *testing.T) {
	in := newInput(t)
	in.stop()
	ln, err := net.Listen("tcp", in.addr)
	if err != nil {
		t.Fatal(err)
	}
	in.listen(resetting{ln})
	for n := range 2 {
		a := in.adaptor(AdaptorOptions{})
		tick := time.NewTicker(time.Millisecond)
		for late := time.Now().Add(patience); !a.Stats().Connected; <-tick.C {
			if time.Now().After(late) {
				t.Fatal("not connected")
			}
		}
		tick.Stop()
		for i := range n {
			if err := a.Send(t.Context(), i); err != nil {
				t.Fatal(err)
			}
			in.next()
		}
		if err := a.Close(t.Context()); (err != nil) != (n > 0) {
			t.Errorf("after %d messages: Close: %v", n, err)
		}
	}
}

func TestAdaptorFull(t *testing.T) {
	in := newInput(t)
	in.stop()
	blocking := in.adaptor(AdaptorOptions{Queue: 2})
	dropping := in.adaptor(AdaptorOptions{Queue: 2, Full: DropOldest})
	for i := range 2 {
		if err := blocking.Send(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := blocking.Send(ended, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("a full queue: %v", err)
	}
	for i := range 5 {
		if err := dropping.Send(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	if n := dropping.Dropped(); n != 3 {
		t.Errorf("%d were dropped", n)
	}
	in.again()
	// A Send that waits goes on when there is room.
	if err := blocking.Send(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	closeWell(t, blocking)
	closeWell(t, dropping)
	var got []string
	for len(in.got) > 0 {
		var m struct{ Data json.RawMessage }
		if err := json.Unmarshal([]byte(<-in.got), &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m.Data))
	}
	if s := strings.Join(got, ""); len(s) != 5 || strings.Count(s, "3") != 1 || strings.Count(s, "4") != 1 || strings.Count(s, "9") != 1 {
		t.Errorf("got %q", got)
	}
}

// Close wakes a Send that waits for room.
func TestAdaptorCloseEndsSend(t *testing.T) {
	in := newInput(t)
	in.stop()
	a := in.adaptor(AdaptorOptions{Queue: 1})
	if err := a.Send(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- a.Send(t.Context(), 1) }()
	closeAtOnce(a)
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("Send: %v", err)
	}
}

func TestAdaptorUDP(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	port := conn.LocalAddr().(*net.UDPAddr).Port //nolint:forcetypeassert // it is UDP
	a, err := NewAdaptor(Options{Broker: fmt.Sprintf("127.0.0.1:%d", port-InputOffset)},
		AdaptorOptions{Namespace: "shop", DocumentationURL: "http://d/é", UDP: true})
	if err != nil {
		t.Fatal(err)
	}
	d := wire.NewDecoder(wire.Limits{})
	for _, data := range []string{
		`null`, `true`, `false`, `0`, `-1`, `127`, `128`, `-32`, `-33`, `9223372036854775807`, `18446744073709551615`,
		`-9223372036854775808`, `1.5`, `-0.0`, `1e+300`, `""`, `"é😀"`, `[]`, `{}`, `[1,[2,{"a":[]}],{"b":{"c":null}}]`,
		`{"a":"` + strings.Repeat("x", 40) + `","b":"` + strings.Repeat("y", 300) + `"}`, `"` + strings.Repeat("z", 65000) + `"`,
	} {
		if err := a.Send(t.Context(), json.RawMessage(data), Below("door"), TakenAt(time.Unix(7, 0))); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		buf := make([]byte, 1<<16)
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, _, err := conn.ReadFromUDP(buf)
		if err != nil {
			t.Fatal(err)
		}
		var got wire.Draft
		if _, err := d.Msgpack(nil, buf[:n], &got); err != nil {
			t.Errorf("%.40s: %v", data, err)
			continue
		}
		if string(got.NS) != "shop.door" || string(got.Data) != data || string(got.Doc) != `"http://d/é"` || got.TS != 7 {
			t.Errorf("sent %.60s, got %s %.60s %s %v", data, got.NS, got.Data, got.Doc, got.TS)
		}
	}
	closeWell(t, a)
}
