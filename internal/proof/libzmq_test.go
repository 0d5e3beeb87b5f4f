//go:build proof

package proof

import (
	"encoding/json"
	"testing"
)

// libzmq is a process with sockets of libzmq.
type libzmq struct{ peer }

func startLibzmq(t *testing.T) libzmq {
	t.Helper()
	return libzmq{startPeer(t, "libzmq.py")}
}

// in is the same process within a subtest.
func (z libzmq) in(t *testing.T) libzmq {
	z.t = t
	return z
}

// socket is one of its sockets.
type socket struct {
	libzmq
	name string
}

// options are options of a socket, by their names in pyzmq.
type options map[string]any

// open makes a socket and connects it.
func (z libzmq) open(kind, name, url string, o options, subscribe ...string) socket {
	z.t.Helper()
	if subscribe == nil {
		subscribe = []string{}
	}
	z.do("open", args{"name": name, "type": kind, "url": url, "options": o, "subscribe": subscribe}, nil)
	return socket{z, name}
}

// publisher makes a PUB socket of which all that is sent from now on comes
// to the broker: it has seen to it that the broker's subscription is there.
func (z libzmq) publisher(b *broker, name, url string, o options) socket {
	z.t.Helper()
	s := z.open("PUB", name, url, o)
	before := b.metric(refusedSeries("not_json"))
	eventually(z.t, "something of "+name+" reaches the broker", func() bool {
		s.send([]byte("anybody there?"))
		return b.metric(refusedSeries("not_json")) > before
	})
	return s
}

func refusedSeries(reason string) string {
	return `tbhist_updates_refused_total{reason="` + reason + `",transport="zmq"}`
}

// send sends a message of these frames.
func (s socket) send(frames ...[]byte) {
	s.t.Helper()
	var sent bool
	s.do("send", args{"name": s.name, "frames": frames, "timeout": 30}, &sent)
	if !sent {
		s.t.Fatalf("%s takes nothing", s.name)
	}
}

// recv gives the frames of the next message.
func (s socket) recv() [][]byte {
	s.t.Helper()
	var frames [][]byte
	s.do("recv", args{"name": s.name, "timeout": 30}, &frames)
	if frames == nil {
		s.t.Fatalf("nothing comes to %s", s.name)
	}
	return frames
}

// collect gives the messages that come until there are so many, or until
// nothing has come for quiet seconds.
func (s socket) collect(most int, quiet float64) []string {
	s.t.Helper()
	var got []string
	s.do("collect", args{"name": s.name, "most": most, "timeout": quiet}, &got)
	return got
}

// updates gives the next n updates; whatever else comes is passed over.
func (s socket) updates(n int) []update {
	s.t.Helper()
	got := make([]update, 0, n)
	for len(got) < n {
		lines := s.collect(n-len(got), 30)
		if len(lines) == 0 {
			s.t.Fatalf("%s got %d updates of %d", s.name, len(got), n)
		}
		for _, line := range lines {
			if m := parse(s.t, line); m.Type == "thing_update" {
				got = append(got, m)
			}
		}
	}
	return got
}

// awaitEvent waits until the socket had n events of a kind.
func (s socket) awaitEvent(kind string, n int) events {
	s.t.Helper()
	var e events
	s.do("await_event", args{"name": s.name, "event": kind, "count": n, "timeout": 30}, &e)
	if e[kind] < n {
		s.t.Fatalf("%s was %s %d times, not %d", s.name, kind, e[kind], n)
	}
	return e
}

// events counts what happened to a socket: connected, disconnected, failed.
type events map[string]int

// wantUnbroken demands that the socket has had one connection all along.
func (s socket) wantUnbroken() {
	s.t.Helper()
	if e := s.awaitEvent("connected", 1); e["connected"] != 1 || e["disconnected"] != 0 || e["failed"] != 0 {
		s.t.Errorf("%s did not keep its connection: %v", s.name, e)
	}
}

// publish sends numbered updates to the Things load.t0, load.t1, …
func (s socket) publish(first, count, things, size int) {
	s.t.Helper()
	s.do("publish", args{"name": s.name, "first": first, "count": count, "things": things, "size": size}, nil)
}

// update is a message of the feed, as far as a test looks at it.
type update struct {
	Type     string          `json:"type"`
	NS       string          `json:"ns"`
	Data     json.RawMessage `json:"data"`
	TS       float64         `json:"ts"`
	Seq      uint64          `json:"seq"`
	ThingSeq uint64          `json:"thing_seq"`
	Received float64         `json:"received"`
	Skipped  uint64          `json:"skipped"` // of heartbeats

	line string
}

func parse(t *testing.T, line string) update {
	t.Helper()
	u := update{line: line}
	if err := json.Unmarshal([]byte(line), &u); err != nil {
		t.Fatalf("%v in %.300q", err, line)
	}
	return u
}

// n gives the number that publish gave an update.
func (u *update) n(t *testing.T) int {
	t.Helper()
	var data struct{ N *int }
	if err := json.Unmarshal(u.Data, &data); err != nil || data.N == nil {
		t.Fatalf("not an update of publish: %.300s", u.line)
	}
	return *data.N
}
