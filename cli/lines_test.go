package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/vmihailenco/msgpack/v5"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
)

// feedLine is an update as it stands on the wire.
type feedLine struct {
	Type     json.RawMessage `json:"type"`
	NS       string          `json:"ns"`
	Data     json.RawMessage `json:"data"`
	TS       json.RawMessage `json:"ts"`
	Doc      json.RawMessage `json:"documentation_url"`
	Seq      json.RawMessage `json:"seq"`
	ThingSeq json.RawMessage `json:"thing_seq"`
	Received json.RawMessage `json:"received"`
}

// readLine takes a line of the feed apart, and fails unless it is, byte for
// byte, what docs/PROTOCOL.md (Live feed) says.
func readLine(t *testing.T, line []byte) feedLine {
	t.Helper()
	var l feedLine
	readStrictly(t, line, &l)
	built := fmt.Sprintf(`{"type": "thing_update", "ns": "%s", "data": %s, "ts": %s, "documentation_url": %s, "seq": %s, "thing_seq": %s, "received": %s}`,
		l.NS, l.Data, l.TS, l.Doc, l.Seq, l.ThingSeq, l.Received)
	if built != string(line) {
		t.Fatalf("not as it should be: %.400q", line)
	}
	checkNumbers(t, l.TS, l.Received)
	checkCompact(t, l.Data, l.Doc)
	return l
}

// snapshotEntry is a Thing in a snapshot, or a line of a directory page.
type snapshotEntry struct {
	Data     json.RawMessage `json:"data"`
	TS       json.RawMessage `json:"ts"`
	NS       string          `json:"ns"`
	Doc      json.RawMessage `json:"documentation_url"`
	Seq      json.RawMessage `json:"seq"`
	ThingSeq json.RawMessage `json:"thing_seq"`
	Received json.RawMessage `json:"received"`
}

func (e *snapshotEntry) String() string {
	return fmt.Sprintf(`{"data": %s, "ts": %s, "ns": "%s", "documentation_url": %s, "seq": %s, "thing_seq": %s, "received": %s}`,
		e.Data, e.TS, e.NS, e.Doc, e.Seq, e.ThingSeq, e.Received)
}

// feedSnapshot is one message of a snapshot.
type feedSnapshot struct {
	TS    json.RawMessage          `json:"ts"`
	Data  map[string]snapshotEntry `json:"data"`
	Seq   uint64                   `json:"seq"`
	Epoch string                   `json:"epoch"`
	Part  int                      `json:"part"`
	Parts int                      `json:"parts"`
}

// readSnapshot is readLine for a message of a snapshot.
func readSnapshot(t *testing.T, line []byte) feedSnapshot {
	t.Helper()
	var s feedSnapshot
	readStrictly(t, line, &s)
	checkNumbers(t, s.TS)
	// Entries may stand in any order: each is cut out where it stands.
	head, rest, ok := bytes.Cut(line, []byte(`, "data": {`))
	if want := fmt.Sprintf(`{"type": "thing_snapshot", "ts": %s`, s.TS); !ok || string(head) != want {
		t.Fatalf("a snapshot begins with %.200q", line)
	}
	bytesOfEntries := 0
	for name, e := range s.Data {
		entry := fmt.Sprintf(`"%s": %s`, name, &e)
		if name != e.NS || !bytes.Contains(rest, []byte(entry)) {
			t.Fatalf("the entry of %q is not as it should be: %.400q", name, line)
		}
		checkNumbers(t, e.TS, e.Received)
		checkCompact(t, e.Data, e.Doc)
		bytesOfEntries += len(entry)
	}
	bytesOfEntries += max(0, len(s.Data)-1) * len(", ")
	tail := fmt.Sprintf(`}, "seq": %d, "epoch": "%s"`, s.Seq, s.Epoch)
	if s.Parts > 0 {
		tail += fmt.Sprintf(`, "part": %d, "parts": %d`, s.Part, s.Parts)
	}
	if string(rest[bytesOfEntries:]) != tail+"}" {
		t.Fatalf("a snapshot ends with %.300q", rest[bytesOfEntries:])
	}
	return s
}

// readStrictly fails unless line is one line of JSON for the strictest
// parser (UTF-8, no name twice, no lone surrogates) and for Go's own.
func readStrictly(t *testing.T, line []byte, into any) {
	t.Helper()
	if bytes.ContainsAny(line, "\n\r") || !jsontext.Value(line).IsValid() {
		t.Fatalf("not one line of JSON for every parser: %.400q", line)
	}
	if err := json.Unmarshal(line, into); err != nil {
		t.Fatalf("%v: %.400q", err, line)
	}
}

// checkNumbers fails where a Python client would see an integer.
func checkNumbers(t *testing.T, numbers ...json.RawMessage) {
	t.Helper()
	for _, n := range numbers {
		if _, err := strconv.ParseFloat(string(n), 64); err != nil || !bytes.ContainsAny(n, ".eE") {
			t.Fatalf("%q is no number with a point or an exponent", n)
		}
	}
}

func checkCompact(t *testing.T, values ...json.RawMessage) {
	t.Helper()
	for _, v := range values {
		var compact bytes.Buffer
		if err := json.Compact(&compact, v); err != nil || compact.String() != string(v) {
			t.Fatalf("not compact: %.200q", v)
		}
	}
}

// canon gives a JSON value in a form in which equal values are equal text:
// 1, 1.0 and true differ, 1.0 and 1e0 do not, nor do members in another
// order.
func canon(t *testing.T, doc []byte) string {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil || dec.More() {
		t.Fatalf("not JSON: %v: %.200q", err, doc)
	}
	b, err := json.Marshal(canonValue(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func canonValue(t *testing.T, v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, ok := new(big.Int).SetString(v.String(), 10); ok {
			return "int " + n.String()
		}
		f, err := v.Float64()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("float %v", f)
	case string:
		return "text " + v
	case []any:
		for i := range v {
			v[i] = canonValue(t, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = canonValue(t, v[k])
		}
	}
	return v
}

// number reads a number that a line shows.
func number(t *testing.T, raw json.RawMessage) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// inTime ends the connection if what the test waits for does not come.
func (s *subscriber) inTime() (stop func() bool) {
	return time.AfterFunc(patience, func() { _ = s.conn.Close() }).Stop
}

// raw waits for the next message of whatever kind, as it came.
func (s *subscriber) raw(t *testing.T) []byte {
	t.Helper()
	frames, err := zmtp.ReadMessage(s.conn)
	if err != nil || len(frames) != 1 {
		t.Fatalf("%d frames came on the feed: %v", len(frames), err)
	}
	return frames[0]
}

// snapshot waits for the next whole snapshot at seq or later.
func (s *subscriber) snapshot(t *testing.T, seq uint64) feedSnapshot {
	t.Helper()
	defer s.inTime()()
	for {
		line := s.raw(t)
		if !bytes.HasPrefix(line, []byte(wire.SnapshotPrefix)) {
			continue
		}
		whole := readSnapshot(t, line)
		for part := 2; part <= whole.Parts; part++ {
			next := readSnapshot(t, s.raw(t))
			if next.Part != part || next.Parts != whole.Parts || next.Seq != whole.Seq || next.Epoch != whole.Epoch || string(next.TS) != string(whole.TS) {
				t.Fatalf("part %d of %d follows part %d of %d", next.Part, next.Parts, part-1, whole.Parts)
			}
			for name, e := range next.Data {
				if _, ok := whole.Data[name]; ok {
					t.Fatalf("%q is in two parts", name)
				}
				whole.Data[name] = e
			}
		}
		if whole.Seq >= seq {
			return whole
		}
	}
}

// judge sends messages to a broker's input, and tells what each of them
// brings on the feed.
type judge struct {
	t        *testing.T
	b        *serveProcess
	feed     *subscriber
	zmq, udp func(payload []byte)
	seq      uint64
	perThing map[string]uint64
	sent     int
}

const sentinelNS = "judge.sentinel"

// newJudge begins with a broker that is empty.
func newJudge(t *testing.T, b *serveProcess) *judge {
	t.Helper()
	j := &judge{t: t, b: b, feed: subscribe(t, b.port, ""), perThing: map[string]uint64{}}
	// The first heartbeat tells that the subscription is at work.
	defer j.feed.inTime()()
	for !bytes.HasPrefix(j.feed.raw(t), []byte(wire.HeartbeatPrefix)) {
		continue
	}
	j.zmq, j.udp = rawAdaptor(t, b.port), rawUDP(t, b.port)
	return j
}

// publishes gives the updates that appear on the feed between sending the
// frames and a sentinel behind them.
func (j *judge) publishes(transport string, frames ...[]byte) []feedLine {
	j.t.Helper()
	j.sent++
	if transport == "udp" {
		for _, f := range frames {
			j.udp(f)
		}
		sentinel, err := msgpack.Marshal([]any{sentinelNS, nil, j.sent, nil})
		if err != nil {
			j.t.Fatal(err)
		}
		j.udp(sentinel)
	} else {
		var message []byte
		for i, f := range frames {
			message = zmtp.AppendFrame(message, f, i < len(frames)-1)
		}
		j.zmq(zmtp.AppendFrame(message, fmt.Appendf(nil, `["%s", 2, %d, null]`, sentinelNS, j.sent), false))
	}
	defer j.feed.inTime()()
	var got []feedLine
	for {
		line := j.feed.raw(j.t)
		if !bytes.HasPrefix(line, []byte(wire.UpdatePrefix)) {
			continue
		}
		l := readLine(j.t, line)
		j.seq++
		j.perThing[l.NS]++
		if string(l.Seq) != itoa(int(j.seq)) || string(l.ThingSeq) != itoa(int(j.perThing[l.NS])) {
			j.t.Fatalf("%q has seq %s and thing_seq %s where %d and %d are next", l.NS, l.Seq, l.ThingSeq, j.seq, j.perThing[l.NS])
		}
		if l.NS == sentinelNS && string(l.Data) == itoa(j.sent) {
			return got
		}
		got = append(got, l)
	}
}

// rawAdaptor connects to the ZeroMQ input, to send bytes framed already.
func rawAdaptor(t *testing.T, port int) func(framed []byte) {
	t.Helper()
	conn, err := zmtp.Dial(t.Context(), "127.0.0.1:"+itoa(port+client.InputOffset), zmtp.DialOptions{Role: zmtp.Pub})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(framed []byte) {
		t.Helper()
		err := conn.Write(framed)
		if err == nil {
			err = conn.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// rawUDP gives a sender of datagrams, whose order loopback keeps.
func rawUDP(t *testing.T, port int) func(datagram []byte) {
	t.Helper()
	conn, err := net.Dial("udp", "127.0.0.1:"+itoa(port+client.InputOffset))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(datagram []byte) {
		t.Helper()
		if _, err := conn.Write(datagram); err != nil {
			t.Fatal(err)
		}
	}
}

// unpackable turns JSON into values for a msgpack encoder.
func unpackable(t *testing.T, doc []byte) any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(doc)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return plainNumbers(t, v)
}

func plainNumbers(t *testing.T, v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		return number(t, json.RawMessage(v))
	case []any:
		for i := range v {
			v[i] = plainNumbers(t, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(t, v[k])
		}
	}
	return v
}
