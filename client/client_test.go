package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

func TestSplitBroker(t *testing.T) {
	for s, want := range map[string]string{
		"":                     "tcp://127.0.0.1:7954",
		"tcp://127.0.0.1:7954": "tcp://127.0.0.1:7954",
		"lab.example":          "tcp://lab.example:7954",
		"lab.example:8954":     "tcp://lab.example:8954",
		"tcp://lab.example/":   "tcp://lab.example:7954",
		"tcp://[::1]:1":        "tcp://[::1]:1",
		"[fe80::1%25eth0]:5":   "tcp://[fe80::1%eth0]:5",
	} {
		c, err := New(Options{Broker: s})
		if err != nil || c.URL() != want {
			t.Errorf("New(%q) is at %v, %v; want %s", s, c, err, want)
		}
	}
	for _, s := range []string{"http://x", "tcp://", ":7954", "x:0", "x:65533", "x:y", "tcp://x/path", "tcp://u@x", "tcp://x?y", "a b"} {
		if _, err := New(Options{Broker: s}); err == nil {
			t.Errorf("New(%q) takes it", s)
		}
	}
}

// A replay asks page after page and adds up what the pages say.
func TestReplay(t *testing.T) {
	var asked []wire.Request
	f := newFake(t, func(r *wire.Request) [][]byte {
		asked = append(asked, *r)
		if r.Cursor == "" {
			return replayPage(4, 6, 8, func(h *wire.PageHead) { h.Next, h.Evicted = "c1", 7 })
		}
		return replayPage(7, 8, 9, func(h *wire.PageHead) { h.Evicted, h.EvictedExact, h.Limited = 2, false, true })
	})
	r := f.client().Replay(t.Context(), Query{Name: "shop.door", Alone: true, Since: Ago(time.Hour), Until: At(time.Unix(5, 0)), ByTS: true, After: 3, Last: 4, Limit: 5})
	var seqs []uint64
	for u, err := range r.Updates() {
		if err != nil {
			t.Fatal(err)
		}
		if want := update(u.Seq); !reflect.DeepEqual(u, want) {
			t.Errorf("got %+v, want %+v", u, want)
		}
		seqs = append(seqs, u.Seq)
	}
	if !reflect.DeepEqual(seqs, []uint64{4, 5, 6, 7, 8}) || r.Evicted != 9 || r.EvictedExact || r.Head != 9 || r.Epoch != "e1" || !r.Limited {
		t.Errorf("got %v, %+v", seqs, r)
	}
	if len(asked) != 2 {
		t.Fatalf("asked %d times", len(asked))
	}
	q := asked[0]
	if q.Name() != "shop.door" || q.WithTree() || *q.Since != -3600e6 || *q.Until != 5e6 || q.By != wire.ByTS || *q.After != 3 || *q.Last != 4 || *q.Limit != 5 {
		t.Errorf("asked %s", q.Append(nil))
	}
}

// Lines are those of the live feed, whatever form the broker gave them.
func TestReplayLines(t *testing.T) {
	answer := func(last string) *Replay {
		f := newFake(t, func(r *wire.Request) [][]byte {
			if r.Cursor == "" {
				return replayPage(1, 2, 5, func(h *wire.PageHead) { h.Next = "c1" })
			}
			page := replayPage(3, 3, 5, func(*wire.PageHead) {})
			return [][]byte{page[0], []byte(last + "\n")}
		})
		return f.client().Replay(t.Context(), Query{})
	}
	want := []string{
		string(updateLine(1)), string(updateLine(2)),
		`{"type": "thing_update", "ns": "shop.door", "data": {"open":true}, "ts": 3.0, "documentation_url": null, "seq": 3, "thing_seq": 3, "received": 0.0}`,
	}
	var got []string
	r := answer(`{"ns":"shop.door", "type":"thing_update", "data": { "open" : true }, "ts":3, "seq":3,"thing_seq":3}`)
	for line, err := range r.Lines() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(line))
	}
	if !reflect.DeepEqual(got, want) || r.Head != 5 {
		t.Errorf("got %q, %+v", got, r)
	}
	count := 0
	for _, err := range answer("").Lines() {
		if err != nil {
			t.Fatal(err)
		}
		count++
		break
	}
	if count != 1 {
		t.Errorf("%d lines after one", count)
	}
	var last error
	for _, last = range answer(`{"type": "thing_update", "ns": "Shop"}`).Lines() {
		count++
	}
	if count != 4 || last == nil || !strings.Contains(last.Error(), "cannot be read") {
		t.Errorf("a line that is no update: %d, %v", count, last)
	}
}

func TestReplayStops(t *testing.T) {
	f := newFake(t, func(r *wire.Request) [][]byte {
		first := uint64(len(r.Cursor))*3 + 1
		return replayPage(first, first+2, first+4, func(h *wire.PageHead) { h.Next = r.Cursor + "c" })
	})
	n := 0
	for _, err := range f.client().Replay(t.Context(), Query{}).Updates() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 5 {
			break
		}
	}
	if n != 5 {
		t.Errorf("%d updates", n)
	}
}

func collect(r *Replay) (n int, err error) {
	for _, err := range r.Updates() {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func TestReplayErrors(t *testing.T) {
	e := wire.ErrorFrame{Code: wire.CodeBadRequest, Message: "so is taken", Epoch: "e1"}
	for name, c := range map[string]struct {
		answer [][]byte
		want   string
	}{
		"error frame": {[][]byte{e.Append(nil)}, "the broker says bad_request: so is taken"},
		"no JSON":     {[][]byte{[]byte("?")}, "cannot be read"},
		"a bad line":  {[][]byte{replayPage(1, 1, 1, nil)[0], []byte("{}\n")}, "a line of the broker's answer"},
	} {
		f := newFake(t, func(*wire.Request) [][]byte { return c.answer })
		_, err := collect(f.client().Replay(t.Context(), Query{}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		var be *BrokerError
		if name == "error frame" && (!errors.As(err, &be) || be.Code != CodeBadRequest || be.Epoch != "e1") {
			t.Errorf("%s: %#v", name, err)
		}
	}
}

func TestAnswerTimeout(t *testing.T) {
	f := newFake(t, func(*wire.Request) [][]byte { return nil })
	c := f.client()
	c.o.AnswerTimeout = time.Millisecond
	if _, err := collect(c.Replay(t.Context(), Query{})); err == nil || !strings.Contains(err.Error(), "does not answer within 1ms") {
		t.Error(err)
	}
}

// The context ends a call that waits, and is its error.
func TestContext(t *testing.T) {
	asked := make(chan struct{}, 4)
	f := newFake(t, func(*wire.Request) [][]byte {
		asked <- struct{}{}
		return nil
	})
	for name, call := range map[string]func(context.Context) error{
		"replay": func(ctx context.Context) error {
			_, err := collect(f.client().Replay(ctx, Query{}))
			return err
		},
		"refused": func(ctx context.Context) error {
			_, err := f.client().Refused(ctx)
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-asked
			cancel()
		}()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range f.client().Feed(ctx, FeedQuery{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("feed: %v", err)
		}
	}
}

func TestThings(t *testing.T) {
	oldest := thing.Micros(5e6)
	f := newFake(t, func(r *wire.Request) [][]byte {
		if r.Type != wire.TypeDirectory || r.Name() != "shop" || *r.At != 7e6 || !*r.Wide {
			t.Errorf("asked %s", r.Append(nil))
		}
		a := wire.Entry{Update: update(3), Doc: []byte(`"http://x"`), Wide: &wire.Wide{Source: "::1", Transport: "udp", Sources: 2, Kept: 9, Oldest: &oldest}}
		b := wire.Entry{Update: Update{Name: "shop.z"}, Unknown: true}
		h := wire.PageHead{Type: wire.TypeDirectoryPage, Epoch: "e1", Count: 2, Head: 9}
		return [][]byte{h.Append(nil), append(append(wire.AppendEntry(nil, &a), '\n'), wire.AppendEntry(nil, &b)...)}
	})
	at := thing.Micros(7e6)
	var got []Entry
	for e, err := range f.client().Things(t.Context(), ThingsQuery{Name: "shop", At: &at, Wide: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	want := []Entry{
		{Update: update(3), Doc: []byte(`"http://x"`), Wide: &Wide{Source: "::1", Transport: "udp", Sources: 2, Kept: 9, Oldest: &oldest}},
		{Update: Update{Name: "shop.z"}, Unknown: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestNoBroker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	deaden(t, ln)
	c, err := New(Options{Broker: addr})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Feed(t.Context(), FeedQuery{}) {
		var none *NoBrokerError
		if !errors.As(err, &none) || none.Addr != addr || err.Error() != "no broker answers at tcp://"+addr+": connection refused" {
			t.Errorf("got %v", err)
		}
	}
	// A web server is no broker.
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	if c, err = New(Options{Broker: web.Listener.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Feed(t.Context(), FeedQuery{}) {
		var none *NoBrokerError
		if !errors.As(err, &none) {
			t.Errorf("got %v", err)
		}
	}
}

func TestHealth(t *testing.T) {
	degraded := false
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if degraded && r.URL.Path == "/healthz" {
			http.Error(w, "degraded: the disk is full", http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	_, port, err := net.SplitHostPort(web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Broker: "127.0.0.1:" + strconv.Itoa(p-HTTPOffset)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Health(t.Context()); err != nil {
		t.Error(err)
	}
	degraded = true
	if err := c.Health(t.Context()); err == nil || err.Error() != "the broker is not well: degraded: the disk is full" {
		t.Error(err)
	}
}
