package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
)

func itoa(n int) string { return strconv.Itoa(n) }

// subscriber is a peer on the live feed.
type subscriber struct{ conn *zmtp.Conn }

// subscribe connects to a feed; "" is everything.
func subscribe(t *testing.T, port int, prefix string) *subscriber {
	t.Helper()
	limits := zmtp.DefaultLimits()
	limits.MaxFrame = 4 << 20
	conn, err := zmtp.Dial(t.Context(), "127.0.0.1:"+itoa(port), zmtp.DialOptions{Role: zmtp.Sub, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Subscribe([]byte(prefix)); err != nil {
		t.Fatal(err)
	}
	return &subscriber{conn: conn}
}

// listening is subscribe to everything, once the broker has heard of it: all
// that is sent from here on comes.
func listening(t *testing.T, port int) *subscriber {
	t.Helper()
	s := subscribe(t, port, "")
	s.next(t, wire.KindSnapshot)
	return s
}

// next waits for the next message of one kind.
func (s *subscriber) next(t *testing.T, kind wire.Kind) wire.Message {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = s.conn.Close() })
	defer late.Stop()
	for {
		frames, err := zmtp.ReadMessage(s.conn)
		if err != nil {
			t.Fatalf("nothing more came on the feed: %v", err)
		}
		m, err := wire.ParseMessage(frames[0])
		if err != nil {
			t.Fatalf("%s: %v", frames[0], err)
		}
		if m.Kind == kind {
			return m
		}
	}
}

// adaptor sends, and loses nothing.
func adaptor(t *testing.T, port int) func(ns string, data any) {
	t.Helper()
	conn, err := zmtp.Dial(t.Context(), "127.0.0.1:"+itoa(port+client.InputOffset), zmtp.DialOptions{Role: zmtp.Pub})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(ns string, data any) {
		t.Helper()
		msg, err := json.Marshal(map[string]any{"type": "thing_update", "ns": ns, "data": data, "ts": 1423351104.5, "documentation_url": "http://doc/" + ns})
		if err == nil {
			err = conn.Write(zmtp.AppendFrame(nil, msg, false))
		}
		if err == nil {
			err = conn.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func sendUDP(t *testing.T, port int, ns string, data any) {
	t.Helper()
	conn, err := net.Dial("udp", "127.0.0.1:"+itoa(port+client.InputOffset))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	msg, err := msgpack.Marshal(map[string]any{"type": "thing_update", "ns": ns, "data": data, "ts": nil})
	if err == nil {
		_, err = conn.Write(msg)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func clientOf(t *testing.T, broker string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Broker: broker})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func replayAll(t *testing.T, broker string, q client.Query) []client.Update {
	t.Helper()
	var all []client.Update
	for u, err := range clientOf(t, broker).Replay(t.Context(), q).Updates() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// line is an update as the feed shows it, to compare.
func line(u client.Update) string { return string(wire.AppendUpdate(nil, &u)) }

// An update that was seen is there after a SIGKILL: the directory, the
// snapshot, seq and history go on where they were, without a hole or a
// double.
func TestBrokerKilled(t *testing.T) {
	dir := t.TempDir()
	b := serve(t, dir)
	feed := subscribe(t, b.port, "")
	if snapshot := feed.next(t, wire.KindSnapshot); len(snapshot.Snapshot.Entries) != 0 {
		t.Fatalf("a new broker's snapshot has %d entries", len(snapshot.Snapshot.Entries))
	}
	send := adaptor(t, b.port)
	const rounds = 50
	var live []string
	collect := func(feed *subscriber, n int) {
		t.Helper()
		for range n {
			m := feed.next(t, wire.KindUpdate)
			if want := uint64(len(live) + 1); m.Update.Seq != want {
				t.Fatalf("seq %d comes where %d is next", m.Update.Seq, want)
			}
			live = append(live, line(m.Update))
		}
	}
	for i := range rounds {
		send(fmt.Sprintf("shop.zmq%d", i%5), i)
		sendUDP(t, b.port, fmt.Sprintf("shop.udp%d", i%3), i)
	}
	collect(feed, 2*rounds)
	for range 3 {
		b.kill()
		b = serve(t, dir)
		if _, err := b.await(`opened, 8 Things, `); err != nil {
			t.Fatal(err)
		}
		feed = subscribe(t, b.port, "")
		snapshot := feed.next(t, wire.KindSnapshot).Snapshot
		if snapshot.Seq != uint64(len(live)) || len(snapshot.Entries) != 8 {
			t.Fatalf("the first snapshot after the restart is at seq %d with %d entries; %d updates of 8 Things were seen", snapshot.Seq, len(snapshot.Entries), len(live))
		}
		for _, e := range snapshot.Entries {
			if doc := string(e.Doc); strings.HasPrefix(string(e.Update.Name), "shop.zmq") && doc != `"http://doc/`+string(e.Update.Name)+`"` {
				t.Errorf("%s has the documentation URL %s", e.Update.Name, doc)
			}
		}
		send = adaptor(t, b.port)
		for i := range rounds {
			send(fmt.Sprintf("shop.zmq%d", i%5), i)
			sendUDP(t, b.port, fmt.Sprintf("shop.udp%d", i%3), i)
		}
		collect(feed, 2*rounds)
	}
	all := replayAll(t, b.broker, client.Query{})
	if len(all) != len(live) {
		t.Fatalf("history has %d updates, %d were seen", len(all), len(live))
	}
	perThing := map[string]uint64{}
	for i, u := range all {
		if line(u) != live[i] {
			t.Errorf("history has\n%s, live was\n%s", line(u), live[i])
		}
		perThing[string(u.Name)]++
		if u.ThingSeq != perThing[string(u.Name)] {
			t.Errorf("%s has thing_seq %d where %d is next", u.Name, u.ThingSeq, perThing[string(u.Name)])
		}
	}
	if code, err := b.end(syscall.SIGTERM); err != nil || code != 0 {
		t.Errorf("ends with %d, %v", code, err)
	}
}

// What came in before a stop is kept, and got to subscribers, before the
// process ends.
func TestBrokerDrains(t *testing.T) {
	dir := t.TempDir()
	b := serve(t, dir, "--gather", "1h") // nothing is committed before the stop
	feed := subscribe(t, b.port, "")
	feed.next(t, wire.KindSnapshot)
	send := adaptor(t, b.port)
	for i := range 100 {
		send("a", i)
	}
	awaitMetric(t, b, `tbhist_updates_accepted_total{transport="zmq"}`, "100")
	if code, err := b.end(syscall.SIGINT); err != nil || code != 0 {
		t.Fatalf("ends with %d, %v", code, err)
	}
	for i := range 100 {
		if m := feed.next(t, wire.KindUpdate); m.Update.Seq != uint64(i+1) {
			t.Fatalf("seq %d comes where %d is next", m.Update.Seq, i+1)
		}
	}
	b = serve(t, dir)
	if got := replayAll(t, b.broker, client.Query{}); len(got) != 100 {
		t.Errorf("history has %d updates", len(got))
	}
}

// get asks the broker's HTTP port.
func (s *serveProcess) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	answer, err := http.Get("http://127.0.0.1:" + itoa(s.port+client.HTTPOffset) + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(raw)
}

// awaitMetric waits for a value; each scrape takes its time, so that this is
// no busy loop.
func awaitMetric(t *testing.T, s *serveProcess, series, value string) {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(patience); ; {
		_, body := s.get(t, "/metrics")
		if strings.Contains(body, "\n"+series+" "+value+"\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s %s in:\n%s", series, value, body)
		}
	}
}

// The metrics of Things are there at the first scrape after a restart.
func TestBrokerHTTP(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	dir := t.TempDir()
	b := serve(t, dir)
	runs(t, "send", "shop.door", "1", "--ts", "1423351104.5", "--broker", b.broker)
	for range 2 {
		_, body := b.get(t, "/metrics")
		for _, series := range []string{
			`tbhist_thing_last_update_timestamp_seconds{thing="shop.door"} 1.4233511045e+09`,
			`tbhist_thing_updates_total{thing="shop.door"} 1`,
			`tbhist_things 1`,
			`tbhist_connections_refused_total{listener="history",reason="not_allowed"} 0`,
			`tbhist_updates_refused_total{reason="ns",transport="udp"} 0`,
		} {
			if !strings.Contains(body, "\n"+series+"\n") {
				t.Errorf("no %s in:\n%s", series, body)
			}
		}
		for _, path := range []string{"/readyz", "/healthz"} {
			if status, body := b.get(t, path); status != http.StatusOK {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		b.kill()
		b = serve(t, dir)
	}
}

// A late joiner has the whole directory at once.
func TestLateJoiner(t *testing.T) {
	b := serve(t, t.TempDir())
	early := subscribe(t, b.port, "")
	early.next(t, wire.KindSnapshot)
	send := adaptor(t, b.port)
	const things = 1000
	for i := range things {
		send(fmt.Sprintf("lab.t%d", i), map[string]any{"value": i, "noise": rand.Float64()})
	}
	for range things {
		early.next(t, wire.KindUpdate)
	}
	// The first message is a snapshot. It may be the one that the first
	// subscriber got a moment ago: then what came since follows it.
	late := subscribe(t, b.port, "")
	snapshot := late.next(t, wire.KindSnapshot).Snapshot
	known := map[string]bool{}
	for _, e := range snapshot.Entries {
		known[string(e.Update.Name)] = true
	}
	if uint64(len(known)) != snapshot.Seq {
		t.Errorf("the snapshot at seq %d has %d Things", snapshot.Seq, len(known))
	}
	for seq := snapshot.Seq + 1; seq <= things; seq++ {
		u := late.next(t, wire.KindUpdate).Update
		if u.Seq != seq {
			t.Fatalf("behind the snapshot at %d comes seq %d where %d is next", snapshot.Seq, u.Seq, seq)
		}
		known[string(u.Name)] = true
	}
	if len(known) != things {
		t.Errorf("%d Things are known", len(known))
	}
}

// A broker is a value: it opens on free ports, runs and closes, and leaves
// nothing behind.
func TestBrokerValue(t *testing.T) {
	clearEnv(t)
	s, err := settingsOf(t, "--listen", "localhost:0", "--db", t.TempDir()+"/t.db")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := openBroker(s, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.ready(); err == nil {
		t.Error("it is ready before it runs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.Run(ctx, func() { close(ready) }) }()
	<-ready
	c := clientOf(t, fmt.Sprintf("tcp://localhost:%d", b.sockets.port()))
	u, err := c.Send(t.Context(), client.Message{Name: "a", Data: []byte("1")})
	if err != nil || u.Seq != 1 {
		t.Errorf("sent as %d, %v", u.Seq, err)
	}
	if err := c.Health(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := b.ready(); err == nil || err.Error() != "closing" {
		t.Errorf("a closed broker is %v", err)
	}
}

// A part that fails ends the broker, in order and with its error.
func TestBrokerPartFails(t *testing.T) {
	clearEnv(t)
	s, err := settingsOf(t, "--listen", "127.0.0.1:0", "--db", t.TempDir()+"/t.db")
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBroker(s, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	err = b.Run(t.Context(), func() { _ = b.sockets.input.Close() })
	if err == nil || !strings.HasPrefix(err.Error(), "input: ") {
		t.Errorf("ends with %v", err)
	}
	again, err := openBroker(s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("its history is not closed: %v", err)
	}
	again.sockets.close()
	if err := again.db.Close(); err != nil {
		t.Error(err)
	}
}
