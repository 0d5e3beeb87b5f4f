package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/thing"
)

// runningBroker is a broker inside the test's process.
type runningBroker struct{ *broker }

func (b runningBroker) url() string { return "tcp://127.0.0.1:" + itoa(b.sockets.port()) }

// runBroker runs a broker, with settings that change may change, until stop
// is called, or the test ends.
func runBroker(t *testing.T, change func(*settings), args ...string) (b runningBroker, stop func()) {
	t.Helper()
	clearEnv(t)
	s, err := settingsOf(t, append([]string{"--listen", "127.0.0.1:0", "--db", t.TempDir() + "/t.db"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&s)
	}
	if b.broker, err = openBroker(s, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		if err := b.Run(ctx, func() { close(ready) }); err != nil {
			t.Errorf("the broker ends with %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	<-ready
	return b, stop
}

// A broker whose clock is set, again and again, keeps everything in order,
// answers about times as the clock was, and goes on telling how it is.
func TestBrokerWhoseClockSteps(t *testing.T) {
	var ahead atomic.Int64 // of the time of day
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())).Round(0) }
	b, _ := runBroker(t, func(s *settings) { s.now = now }, "--keep", "=unlimited,1h", "--snapshot-interval", "100ms")
	feed := listening(t, b.sockets.port())
	c := clientOf(t, b.url())
	adaptor, err := c.NewAdaptor(client.AdaptorOptions{Namespace: "uptime"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = adaptor.Close(t.Context()) }()
	dir := c.Directory()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		_ = dir.Run(ctx) // it ends with ctx
	}()
	defer func() {
		cancel()
		<-left
	}()

	var seen []thing.Update
	send := func() {
		t.Helper()
		for range 3 {
			n := len(seen)
			uptime := float64(n) // what a source without a clock knows
			before := thing.MicrosOf(now())
			if err := adaptor.SendMessage(t.Context(), client.Message{Data: fmt.Append(nil, n), TS: &uptime}); err != nil {
				t.Fatal(err)
			}
			u := feed.next(t, wire.KindUpdate).Update
			if u.Seq != uint64(n+1) || u.ThingSeq != u.Seq || string(u.Data) != strconv.Itoa(n) || u.TS != uptime {
				t.Fatalf("%s, want seq %d", line(u), n+1)
			}
			if u.Received < before || u.Received > thing.MicrosOf(now()) {
				t.Errorf("%s, received between %v and %v", line(u), before.Time(), now())
			}
			seen = append(seen, u)
		}
	}
	check := func() {
		t.Helper()
		head := uint64(len(seen))
		snapshot := feed.next(t, wire.KindSnapshot).Snapshot
		for snapshot.Seq < head { // those from before
			snapshot = feed.next(t, wire.KindSnapshot).Snapshot
		}
		if age := now().Sub(snapshot.TS.Time()).Abs(); age > 10*time.Minute || len(snapshot.Entries) != 1 || snapshot.Entries[0].Update.Seq != head {
			t.Errorf("%v old, %+v: want a snapshot of now with seq %d", age, snapshot, head)
		}
		since := thing.MicrosOf(now().Add(-time.Hour))
		var got, want []uint64
		for _, u := range seen {
			if u.Received >= since {
				want = append(want, u.Seq)
			}
		}
		for _, u := range replayAll(t, b.url(), client.Query{Since: client.Ago(time.Hour)}) {
			got = append(got, u.Seq)
		}
		if !slices.Equal(got, want) {
			t.Errorf("of the last hour are %v, want %v", got, want)
		}
		if err := b.db.Maintain(); err != nil {
			t.Error(err)
		}
		if state := b.db.State(); state.Updates != head || state.Head != head {
			t.Errorf("%+v, want all %d", state, head)
		}
		if err := c.Health(t.Context()); err != nil {
			t.Error(err)
		}
		if lag := metricOf(t, b.url(), "tbhist_subscriber_lag_seconds"); lag < 0 || lag > patience.Seconds() {
			t.Errorf("a subscriber is said to be %v s behind", lag)
		}
		if d := metricOf(t, b.url(), "tbhist_clock_distrusted"); d != 1 {
			t.Errorf("the clock is trusted: %v", d)
		}
	}
	const tenYears = 10 * 365 * 24 * time.Hour
	for _, step := range []time.Duration{0, tenYears, 0, -tenYears, time.Until(time.Unix(5, 0)), 13 * time.Hour, 0} {
		ahead.Store(int64(step))
		send()
		check()
	}
	if err := dir.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	changed := make(chan string, 100)
	if _, err := dir.Thing("uptime").Subscribe(func(e client.ThingEvent) { changed <- string(e.Update.Data) }); err != nil {
		t.Fatal(err)
	}
	send()
	for last := strconv.Itoa(len(seen) - 1); ; {
		select {
		case got := <-changed:
			if got != last {
				continue
			}
		case <-time.After(patience):
			t.Errorf("a client never heard of %s", last)
		}
		break
	}
	if n := metricOf(t, b.url(), "tbhist_subscriber_skipped_total"); n != 0 {
		t.Errorf("%v were skipped", n)
	}
}

// metricOf reads a metric without labels.
func metricOf(t *testing.T, broker, name string) float64 {
	t.Helper()
	defer http.DefaultClient.CloseIdleConnections()
	var port int
	if _, err := fmt.Sscanf(broker, "tcp://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get("http://127.0.0.1:" + itoa(port+client.HTTPOffset) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile("(?m)^" + name + " (.*)$").FindSubmatch(body)
	if match == nil {
		t.Fatalf("no %s", name)
	}
	value, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
