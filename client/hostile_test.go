package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tbhist/internal/dnstest"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// isNonsense makes sure that err says what is wrong, and who answers so.
func isNonsense(t *testing.T, name string, err error, want string) {
	t.Helper()
	var nonsense *NonsenseError
	if !errors.As(err, &nonsense) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), nonsense.Addr) {
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}

// withHead makes an answer of a page of which the test makes the head.
func withHead(from, to uint64, change func(*wire.PageHead)) func(*wire.Request) [][]byte {
	return func(*wire.Request) [][]byte { return replayPage(from, to, to, change) }
}

// A history that makes no sense ends every kind of replay, with an error that
// tells what makes none.
func TestHostileHistory(t *testing.T) {
	endless := func(cursor func(r *wire.Request) string, lines uint64) func(*wire.Request) [][]byte {
		return func(r *wire.Request) [][]byte {
			first := uint64(1 + 2*len(r.Cursor))
			return replayPage(first, first+lines-1, 9, func(h *wire.PageHead) { h.Next = cursor(r) })
		}
	}
	line := updateLine(1)
	other := Update{Name: "lab", Data: []byte("1"), Seq: 5, ThingSeq: 5}
	for name, c := range map[string]struct {
		answer func(*wire.Request) [][]byte
		want   string
	}{
		"a cursor that does not move": {endless(func(*wire.Request) string { return "c" }, 1), "round in a circle"},
		"a circle of empty pages": {endless(func(r *wire.Request) string {
			return strings.Repeat("c", 1+(len(r.Cursor)+1)%7)
		}, 0), "round in a circle"},
		"a huge cursor": {withHead(1, 1, func(h *wire.PageHead) { h.Next = strings.Repeat("c", maxCursor+1) }), "a cursor of"},
		"seq goes back": {func(r *wire.Request) [][]byte {
			return replayPage(7-uint64(len(r.Cursor)), 7, 9, func(h *wire.PageHead) { h.Next = r.Cursor + "c" })
		}, "update 6 behind 7"},
		"not kept": {func(*wire.Request) [][]byte {
			u := Update{Name: "shop.door", Data: []byte("1")}
			h := wire.PageHead{Type: wire.TypeReplayPage, Epoch: "e1", Count: 1}
			return [][]byte{h.Append(nil), append(wire.AppendUpdate(nil, &u), '\n')}
		}, "update 0 behind 0"},
		"another Thing": {func(*wire.Request) [][]byte {
			h := wire.PageHead{Type: wire.TypeReplayPage, Epoch: "e1", Count: 1}
			return [][]byte{h.Append(nil), append(wire.AppendUpdate(nil, &other), '\n')}
		}, `an update of "lab" where "shop" was asked for`},
		"more than asked for": {withHead(1, 4, nil), "4 updates, where at most 3"},
		"epoch changes": {func(r *wire.Request) [][]byte {
			return replayPage(uint64(1+len(r.Cursor)), uint64(1+len(r.Cursor)), 9, func(h *wire.PageHead) {
				h.Next, h.Epoch = r.Cursor+"c", fmt.Sprint("e", len(r.Cursor))
			})
		}, `a page of history "e1", where the answer is to be of "e0"`},
		"an epoch for the terminal": {withHead(1, 1, func(h *wire.PageHead) { h.Epoch = "\x1b[2J" }), `a history named "\x1b[2J"`},
		"a count beyond":            {withHead(1, 1, func(h *wire.PageHead) { h.Count = math.MaxUint64 }), "says it has 18446744073709551615 lines, and has 1"},
		"a count below":             {withHead(1, 2, func(h *wire.PageHead) { h.Count = 1 }), "says it has 1 lines, and has 2"},
		"no body":                   {func(*wire.Request) [][]byte { return replayPage(1, 2, 2, nil)[:1] }, "says it has 2 lines, and has 0"},
		"another type":              {withHead(1, 0, func(h *wire.PageHead) { h.Type = wire.TypeRefusedPage }), "a refused_page where a replay_page"},
		"another question":          {withHead(1, 1, func(h *wire.PageHead) { h.ID = []byte("7") }), "an answer to another question"},
		"a large page": {func(*wire.Request) [][]byte {
			h := wire.PageHead{Type: wire.TypeReplayPage, Epoch: "e1", Count: 2}
			return [][]byte{h.Append(nil), []byte(string(line) + "\n" + strings.Repeat(" ", maxPage) + "\n")}
		}, fmt.Sprintf("where %d were asked for", pageBytes)},
	} {
		f := newFake(t, c.answer)
		q := Query{Name: "shop", Limit: 3}
		if strings.Contains(name, "seq") || strings.Contains(name, "circle") {
			q.Limit = 0
		}
		_, err := collect(f.client().Replay(t.Context(), q))
		isNonsense(t, name, err, c.want)
		_, err = collect(f.client().Replay(t.Context(), q, Resumable(nil)))
		isNonsense(t, name+", resumable", err, c.want)
		err = nil
		for _, e := range f.client().Replay(t.Context(), q).Lines() {
			err = e
		}
		isNonsense(t, name+", lines", err, c.want)
	}
}

// An honest cursor may be large: it has a number of each of very many Things.
func TestLargeCursor(t *testing.T) {
	f := newFake(t, func(r *wire.Request) [][]byte {
		if r.Cursor != "" {
			return replayPage(2, 2, 2, nil)
		}
		return replayPage(1, 1, 2, func(h *wire.PageHead) { h.Next = strings.Repeat("c", maxCursor) })
	})
	lines, err := collect(f.client().Replay(t.Context(), Query{Name: "shop", Last: 2}))
	if err != nil || lines != 2 {
		t.Errorf("%d updates, %v", lines, err)
	}
}

// Pages with nothing in them end some time, though each has a cursor that was
// never there before.
func TestHostileEmptyPages(t *testing.T) {
	var m moving
	h := &history{connection: &connection{at: endpoint{"broker", 7954}, offset: HistoryOffset}}
	var err error
	n := 0
	for asked := ""; err == nil && n < 10*maxEmpty; n++ {
		next := string(binary.BigEndian.AppendUint32(nil, uint32(n)+1))
		err = m.next(h, asked, &page{head: &wire.PageHead{Next: next}})
		asked = next
	}
	isNonsense(t, "empty", err, "broker:7956")
	if n != maxEmpty+1 {
		t.Errorf("it was seen after %d pages", n)
	}
}

// The directory over the history service is in the order of names, and ends.
func TestHostileThings(t *testing.T) {
	for name, c := range map[string]struct {
		names []thing.Name
		want  string
	}{
		"again":         {[]thing.Name{"shop.a", "shop.a"}, `Thing "shop.a" behind "shop.a"`},
		"back":          {[]thing.Name{"shop.b", "shop.a"}, `Thing "shop.a" behind "shop.b"`},
		"not asked for": {[]thing.Name{"lab"}, `Thing "lab" where "shop" was asked for`},
	} {
		f := newFake(t, func(r *wire.Request) [][]byte {
			h := wire.PageHead{Type: wire.TypeDirectoryPage, Epoch: "e1", Count: 1, Next: r.Cursor + "c"}
			e := entry(c.names[min(len(r.Cursor), len(c.names)-1)], "1")
			return [][]byte{h.Append(nil), append(wire.AppendEntry(nil, &e), '\n')}
		})
		var err error
		for _, e := range f.client().Things(t.Context(), ThingsQuery{Name: "shop"}) {
			err = e
		}
		isNonsense(t, name, err, c.want)
	}
	f := newFake(t, func(*wire.Request) [][]byte { return replayPage(1, 1, 1, nil) })
	_, err := f.client().Refused(t.Context())
	isNonsense(t, "another type", err, "a replay_page where a refused_page was asked for")
}

// A Follow of a broker that makes no sense tells so, and goes on when one that
// does is there.
func TestHostileFollow(t *testing.T) {
	good := func(*wire.Request) [][]byte { return replayPage(1, 2, 2, nil) }
	for name, c := range map[string]struct {
		answer func(*wire.Request) [][]byte
		feed   [][]byte
		want   string
	}{
		"a circle": {func(r *wire.Request) [][]byte {
			return replayPage(1, 0, 9, func(h *wire.PageHead) { h.Next = "c" })
		}, [][]byte{beat(9)}, "round in a circle"},
		"the same lines": {func(r *wire.Request) [][]byte {
			return replayPage(1, 2, 9, func(h *wire.PageHead) { h.Next = r.Cursor + "c" })
		}, [][]byte{beat(9)}, "update 1 behind 2"},
		"another epoch":     {good, [][]byte{beat(2), heartbeatLine(wire.Heartbeat{Seq: 3, Epoch: "e2"})}, `of history "e2" behind one of "e1"`},
		"a seq that drops":  {good, [][]byte{beat(2), beat(math.MaxUint64), beat(3)}, "with seq 3 behind one with 18446744073709551615"},
		"a strange history": {good, [][]byte{heartbeatLine(wire.Heartbeat{Epoch: "a\nb"})}, `named "a\nb"`},
	} {
		f := newFake(t, c.answer)
		go f.tell(1, c.feed...)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var got error
		for e, err := range f.client().Follow(ctx, Query{Name: "shop"}) {
			if got = err; e.Kind == Disconnected && e.Err != nil {
				got = e.Err
				break
			}
		}
		cancel()
		isNonsense(t, name, got, c.want)
	}

	// Numbers that jump, repeat and are as large as can be are handed on once
	// at most, and what was not asked for is not.
	stray := Update{Name: "lab", Data: []byte("1"), Seq: 4, ThingSeq: 4}
	huge := Update{Name: "shop.door", Data: []byte("1"), Seq: math.MaxUint64, ThingSeq: math.MaxUint64}
	f := newFake(t, func(r *wire.Request) [][]byte {
		if r.After == nil {
			return replayPage(1, 2, 2, nil)
		}
		return replayPage(1, 0, math.MaxUint64, nil)
	})
	go f.tell(1, beat(2), wire.AppendUpdate(nil, &stray), updateLine(3), updateLine(3), []byte("{}"), nil, updateLine(1),
		wire.AppendUpdate(nil, &huge), updateLine(5), beat(math.MaxUint64))
	expect(t, f, Query{Name: "shop"}, "1 2 caught 3 caught")
}

// What a Follow knows of Things does not grow without end.
func TestHostileNames(t *testing.T) {
	c := newContinuity(true)
	c.most = 1 << 20
	for i := range 100_000 {
		c.step(&Update{Name: thing.Name(fmt.Sprint("a", i)), ThingSeq: 5})
	}
	if n := len(c.last); n > 20_000 || c.complete {
		t.Errorf("%d Things, %v", n, c.complete)
	}
	if missing, known := c.missing(&Update{Name: "a0", ThingSeq: 9}); known {
		t.Errorf("%d are missing of what was forgotten", missing)
	}
}

// A live feed is not held without end while its first heartbeat is waited for.
func TestHostileNoHeartbeat(t *testing.T) {
	f := newFake(t, nil)
	cl := f.client()
	cl.maxEarly = 1 << 20
	var publishing sync.WaitGroup
	publishing.Go(func() {
		f.awaitSubscribed(2)
		for i := range uint64(1 << 20 / heldOverhead) {
			f.publish(updateLine(i + 1))
		}
	})
	defer publishing.Wait()
	for _, err := range cl.Feed(t.Context(), FeedQuery{}) {
		isNonsense(t, "no heartbeat", err, "1 MiB, and no heartbeat")
	}
}

// Half a message is not waited for for ever, and nothing is brought that was
// not subscribed to.
func TestHostileFeed(t *testing.T) {
	f := newFake(t, nil)
	feed, err := f.client().feed(t.Context(), "shop", true, false)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.close()
	stray := Update{Name: "lab", Data: []byte("1"), Seq: 4, ThingSeq: 4}
	f.awaitSubscribed(3)
	f.mu.Lock()
	c := f.feeds[0]
	f.mu.Unlock()
	if err := errors.Join(
		c.Write(zmtp.AppendFrame(nil, wire.AppendUpdate(nil, &stray), false), zmtp.AppendFrame(nil, updateLine(5), true)), c.Flush(),
	); err != nil {
		t.Fatal(err)
	}
	if m, err := feed.next(t.Context()); err != nil || m.Kind != wire.KindUnknown {
		t.Errorf("what was not subscribed to: %+v, %v", m, err)
	}
	feed.silence = time.Millisecond
	if _, err := feed.next(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing was heard") {
		t.Errorf("half a message: %v", err)
	}
}

// A directory has its bounds: what goes beyond is counted, what it has can
// still change, and names of many parts count for all they make.
func TestHostileDirectory(t *testing.T) {
	f := newFake(t, nil)
	cl := f.client()
	cl.o.MaxDirectory = 1 << 20
	d := newDirectory(cl, "")
	keep(t, d)
	f.say(1, snapshotLine(1, 1, entry("shop.door", "1")))
	ready(t, d)
	deep := strings.Repeat("a.", 500)
	var lines [][]byte
	for i := range 200 {
		u := Update{Name: thing.Name(fmt.Sprint("x", i, ".", deep, "a")), Data: []byte("1"), Seq: 1, ThingSeq: 1, Received: 1}
		lines = append(lines, wire.AppendUpdate(nil, &u))
	}
	u := Update{Name: "shop.door", Data: []byte("2"), Seq: 2, ThingSeq: 2, Received: 1}
	f.say(1, append(lines, wire.AppendUpdate(nil, &u), heartbeatLine(wire.Heartbeat{Epoch: "\x1b[2J"}), beat(7))...)
	awaitState(t, d, func(s *DirectoryState) bool { return s.Seq == 7 })
	s := d.State()
	if s.NoRoom < 190 || s.Unreadable != 1 || s.Epoch != "e1" {
		t.Errorf("the state is %+v", s)
	}
	if _, data, _ := d.Thing("shop.door").Data(); string(data) != "2" {
		t.Errorf("what was known is %s", data)
	}
	// A datum that there is no room for leaves no older one behind, and is
	// told to who listens.
	called := make(chan ThingEvent, 1)
	if _, err := d.Thing("shop").Subscribe(func(e ThingEvent) { called <- e }, WithTree()); err != nil {
		t.Fatal(err)
	}
	u = Update{Name: "shop.door", Data: []byte(`"` + strings.Repeat("x", 2<<20) + `"`), Seq: 8, ThingSeq: 3, Received: 1}
	f.say(1, wire.AppendUpdate(nil, &u), beat(9))
	awaitState(t, d, func(s *DirectoryState) bool { return s.Seq == 9 })
	if e := <-called; e.Update.Seq != 8 {
		t.Errorf("called with update %d", e.Update.Seq)
	}
	if _, data, _ := d.Thing("shop.door").Data(); data != nil || d.State().NoRoom != s.NoRoom+1 {
		t.Errorf("without room it is %.20s, %+v", data, d.State())
	}
	u = Update{Name: "shop.door", Data: []byte("3"), Seq: 10, ThingSeq: 4, Received: 1}
	f.say(1, wire.AppendUpdate(nil, &u), beat(11))
	awaitState(t, d, func(s *DirectoryState) bool { return s.Seq == 11 })
	if _, data, _ := d.Thing("shop.door").Data(); string(data) != "3" {
		t.Errorf("with room again it is %s", data)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if len(d.nodes) > 1<<20/nodeBytes || d.bytes > 1<<20 {
		t.Errorf("%d nodes, %d bytes", len(d.nodes), d.bytes)
	}
}

// Answers over HTTP that do not end, or carry what no broker has, are errors;
// what is shown of them steers no terminal.
func TestHostileUpkeep(t *testing.T) {
	const esc = "\x1b]0;gone\x07"
	for name, c := range map[string]struct {
		body, want string
		endless    bool
		status     int
	}{
		"endless":           {`{"names":["`, "more than 1048576 bytes", true, 200},
		"endless nesting":   {`[[[[[[[[`, "", true, 200},
		"a name":            {`{"names":["` + `\u001b[2J` + `"]}`, `a Thing named "\x1b[2J"`, false, 200},
		"an epoch":          {`{"epoch":"\u001b[2J"}`, `a history named "\x1b[2J"`, false, 200},
		"names of prefixes": {`{"prefixes":[{"ns":"b"},{"ns":"a"}]}`, `prefix "a" is no namespace, or not in order`, false, 200},
		"nothing repeated":  {`{"prefixes":[` + strings.Repeat("null,", 1000) + `null]}`, `prefix "" is no namespace, or not in order`, false, 200},
		"a message":         {`{"type":"error","code":"failed","message":"` + `\u001b]0;gone\u0007` + `"}`, "\uFFFD]0;gone\uFFFD", false, 500},
	} {
		cl := upkeepBroker(t, "", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, err := io.WriteString(w, c.body)
			for c.endless && err == nil {
				_, err = io.WriteString(w, strings.Repeat("[", 4096))
			}
		})
		cl.maxAnswer = 1 << 20
		_, statsErr := cl.Stats(t.Context(), StatsQuery{})
		_, forgetErr := cl.Forget(t.Context(), ForgetQuery{Name: "a"})
		told := fmt.Sprint(statsErr, forgetErr)
		if !strings.Contains(told, c.want) || c.endless && (statsErr == nil || forgetErr == nil) || strings.Contains(told, esc[:1]) {
			t.Errorf("%s: %v; %v", name, statsErr, forgetErr)
		}
	}
}

// Whoever accepts and says nothing holds nobody for longer than the limits
// that were set.
func TestHostileSilence(t *testing.T) {
	port := 0
	for i, ln := range openPorts(t) {
		if i == 0 {
			port = ln.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
		}
		t.Cleanup(func() { _ = ln.Close() }) // the system accepts for it
	}
	cl, err := New(Options{Broker: fmt.Sprint("127.0.0.1:", port), DialTimeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	m := Message{Name: "shop", Data: []byte("1")}
	for name, call := range map[string]func(context.Context) error{
		"ping":   cl.Ping,
		"replay": func(ctx context.Context) error { _, err := collect(cl.Replay(ctx, Query{})); return err },
		"resumable": func(ctx context.Context) error {
			_, err := collect(cl.Replay(ctx, Query{}, Resumable(nil)))
			return err
		},
		"refused": func(ctx context.Context) error { _, err := cl.Refused(ctx); return err },
		"send":    func(ctx context.Context) error { _, err := cl.Send(ctx, m); return err },
		"run":     func(ctx context.Context) error { return newDirectory(cl, "").Run(ctx) },
		"follow":  func(ctx context.Context) (err error) { return last(cl.Follow(ctx, Query{})) },
		"feed":    func(ctx context.Context) (err error) { return last(cl.Feed(ctx, FeedQuery{})) },
		"things":  func(ctx context.Context) (err error) { return last(cl.Things(ctx, ThingsQuery{})) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var none *NoBrokerError
		if err := call(ctx); !errors.As(err, &none) || !strings.Contains(err.Error(), "nothing is heard from it") {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// last gives the error that ends a loop.
func last[V any](all func(func(V, error) bool)) (err error) {
	for _, err = range all {
		continue
	}
	return err
}

// A zone of as many brokers as it can name, that are not there is tried for some of them.
func TestHostileZone(t *testing.T) {
	records := []string{local("b.example.org.")}
	for i := range 900 { // what one answer has room for
		records = append(records, srv(0, i, 20000+i%500, "b.example.org."))
	}
	s := nameServer(t, records...)
	s.Break(dnstest.Truncated) // it is too long for UDP
	cl := zoneClient(t, s)
	if all, err := cl.Records(t.Context()); err != nil || len(all) != 900 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	at, err := cl.endpoints(t.Context())
	if err != nil || len(at) != maxEndpoints {
		t.Errorf("%d are tried, %v", len(at), err)
	}
	seen := map[endpoint]bool{}
	for _, e := range at {
		seen[e] = true
	}
	if len(seen) != len(at) {
		t.Errorf("some of %v are tried twice", at)
	}
}
