//go:build proof

package proof

import (
	"context"
	"math"
	"testing"
	"time"
)

// What a subscriber is slowed to, and how long. The updates that it is behind
// by then are several times what the broker keeps of the feed in memory.
const (
	slowThings  = 20
	slowSize    = 3000 // bytes of padding in each update
	slowRate    = 2500 // updates a second
	slowFor     = 20 * time.Second
	slowMargin  = 48 * mib       // by which memory may differ
	slowBehind  = 2 * slowMargin // bytes that it is behind by, at least
	slowWarm    = 20000          // updates taken at full speed before
	slowReading = 50             // updates that the slowed reader takes at a time
)

// A subscriber that reads a tenth of what comes for 20 s, and then all it can,
// gets every update in order, and the broker's memory does not grow with what
// it is behind.
func TestSlowSubscriber(t *testing.T) {
	b := startBroker(t)
	sender, reader := startLibzmq(t), startLibzmq(t)
	in := sender.publisher(b, "in", b.url(inputPort), nil)
	out := reader.open("SUB", "slow", b.url(feedPort), options{"RCVHWM": 10, "RCVBUF": 16384},
		`{"type": "thing_update"`, `{"type": "thing_heartbeat"`)
	eventually(t, "the subscriber is there", func() bool { return b.metric("tbhist_subscribers") == 1 })

	sending, stop := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	total := 0
	go func() {
		for sending.Err() == nil {
			if err := sender.try("publish", args{
				"name": in.name, "first": total, "count": slowRate / 5, "things": slowThings, "size": slowSize, "rate": slowRate,
			}, nil); err != nil {
				sent <- err
				return
			}
			total += slowRate / 5
		}
		sent <- nil
	}()
	defer stop()
	r := &slowReader{t: t, s: out}

	// At full speed first: what memory does then is what it may do later.
	fast := watchMemory(t, b)
	for r.seq < slowWarm {
		r.read(1000, 0)
	}
	fastPeak := fast.peak()

	slow := watchMemory(t, b)
	began, behind := time.Now(), 0.0
	accepted := func() float64 { return b.metric(`tbhist_updates_accepted_total{transport="zmq"}`) }
	const lineBytes = slowSize + 190
	for time.Since(began) < slowFor || behind*lineBytes < slowBehind {
		r.read(slowReading, slowRate/10)
		behind = accepted() - float64(r.seq)
	}
	slowly, slowPeak := time.Since(began), slow.peak()
	lines := b.command("replay", "--limit", "1", "--after", "0")
	if len(lines) == 0 {
		t.Error("history does not answer while a subscriber is slow")
	}
	lag := b.metric("tbhist_subscriber_lag_seconds")

	// Let loose, while updates still come in; then to the end.
	loose := time.Now()
	resume := r.seq
	for accepted()-float64(r.seq) > slowRate {
		r.read(1000, 0)
	}
	caughtUp := time.Since(loose)
	rate := float64(r.seq-resume) / caughtUp.Seconds()
	stop()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for r.seq < uint64(total) {
		r.read(total-int(r.seq), 0)
	}
	if skipped := b.metric("tbhist_subscriber_skipped_total"); skipped != 0 || r.skipped != 0 {
		t.Errorf("%v updates were skipped, and heartbeats say %d", skipped, r.skipped)
	}
	out.wantUnbroken()

	if slowPeak > fastPeak+slowMargin {
		t.Errorf("memory grew from %d to %d MiB while a subscriber was slow", fastPeak/mib, slowPeak/mib)
	}
	measured(t, "slow subscriber: %d updates in order; %.0f updates (%.0f MB, %.1f s) behind after %.0f s at a tenth, then %.0f updates/s until caught up after %.1f s; RssAnon at most %d MiB before, %d MiB meanwhile",
		total, behind, behind*lineBytes/1e6, lag, slowly.Seconds(), rate, caughtUp.Seconds(), fastPeak/mib, slowPeak/mib)
}

// slowReader reads what publish sends and demands that nothing is missing.
type slowReader struct {
	t       *testing.T
	s       socket
	seq     uint64 // of the last update
	skipped uint64 // by what heartbeats say
}

func (r *slowReader) read(most int, rate int) {
	r.t.Helper()
	var got []string
	r.s.do("collect", args{"name": r.s.name, "most": most, "timeout": 20, "rate": rate, "brief": true}, &got)
	if len(got) == 0 {
		r.t.Fatalf("nothing comes after seq %d", r.seq)
	}
	for _, line := range got {
		m := parse(r.t, line)
		r.skipped += m.Skipped
		if m.Type != "thing_update" {
			continue
		}
		if m.Seq != r.seq+1 || m.n(r.t) != int(r.seq) {
			r.t.Fatalf("after seq %d comes seq %d, sent as no. %d", r.seq, m.Seq, m.n(r.t))
		}
		r.seq = m.Seq
	}
}

// memory is watched until its peak is asked for.
type memory struct {
	stop func()
	max  chan int64
}

// watchMemory samples the broker's anonymous memory.
func watchMemory(t *testing.T, b *broker) *memory {
	ctx, stop := context.WithCancel(t.Context())
	m := &memory{stop: stop, max: make(chan int64, 1)}
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		top := int64(math.MinInt64)
		for {
			if now, err := procFigure(b.cmd.Process.Pid, "RssAnon"); err == nil {
				top = max(top, now)
			}
			select {
			case <-ctx.Done():
				m.max <- top
				return
			case <-tick.C:
			}
		}
	}()
	return m
}

// peak ends the watch and gives the most that was seen, in bytes.
func (m *memory) peak() int64 {
	m.stop()
	return <-m.max
}
