package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"tbhist/internal/wire"
)

// recipe makes a large message: head, count times unit, tail.
type recipe struct {
	Head, Unit string
	Count      int
	Tail       string
}

func (r recipe) bytes() []byte { return []byte(r.Head + strings.Repeat(r.Unit, r.Count) + r.Tail) }

// inputCase is one line of testdata/conformance/input.jsonl.
type inputCase struct {
	Name, Transport string
	Payload         []byte          `json:"payload_b64"`
	Frames          [][]byte        `json:"frames_b64"`
	Recipe          *recipe         `json:"payload_recipe"`
	Expect          json.RawMessage `json:"expect"`
	ExpectRecipe    []recipe        `json:"expect_recipe"`
}

// cases reads the lines of a file of recorded cases.
func cases[C any](t *testing.T, file string, atLeast int) []C {
	t.Helper()
	f, err := os.Open("testdata/conformance/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []C
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var c C
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	if err := lines.Err(); err != nil || len(all) < atLeast {
		t.Fatalf("%s has %d cases: %v", file, len(all), err)
	}
	return all
}

// wanted gives what a case expects on the feed; survive is true where any
// outcome will do, as long as the broker goes on.
func (c *inputCase) wanted(t *testing.T) (want []map[string]json.RawMessage, survive bool) {
	t.Helper()
	read := func(doc []byte, into any) {
		if err := json.Unmarshal(doc, into); err != nil {
			t.Fatal(err)
		}
	}
	switch string(c.Expect) {
	case `"survive"`:
		return nil, true
	case `"recipe"`:
		want = make([]map[string]json.RawMessage, len(c.ExpectRecipe))
		for i, r := range c.ExpectRecipe {
			read(r.bytes(), &want[i])
		}
	default:
		read(c.Expect, &want)
	}
	return want, false
}

// What was recorded of the original, with the differences that
// docs/PROTOCOL.md lists, through the sockets of a running broker.
func TestConformanceInput(t *testing.T) {
	j := newJudge(t, serve(t, t.TempDir()))
	for _, c := range cases[inputCase](t, "input.jsonl", 219) {
		switch {
		case c.Recipe != nil:
			c.Frames = [][]byte{c.Recipe.bytes()}
		case c.Frames == nil:
			c.Frames = [][]byte{c.Payload}
		}
		want, survive := c.wanted(t)
		before := time.Now()
		got := j.publishes(c.Transport, c.Frames...)
		if survive {
			continue
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d updates were published, not %d: %.300v", c.Name, len(got), len(want), got)
			continue
		}
		for i, w := range want {
			if string(w["ts"]) == `"<TS>"` {
				w["ts"] = got[i].TS
				checkClock(t, c.Name, got[i], before)
			}
			compare(t, c.Name, w, map[string][]byte{
				"type": got[i].Type, "ns": strconv.AppendQuote(nil, got[i].NS), "data": got[i].Data, "ts": got[i].TS, "documentation_url": got[i].Doc,
			})
		}
	}
}

// checkClock fails unless the update shows the broker's clock.
func checkClock(t *testing.T, name string, l feedLine, since time.Time) {
	t.Helper()
	ts := number(t, l.TS)
	if lo, hi := float64(since.UnixMicro())/1e6, float64(time.Now().UnixMicro())/1e6; ts < lo || ts > hi {
		t.Errorf("%s: ts is %v, it came between %v and %v", name, ts, lo, hi)
	}
	if ts != number(t, l.Received) {
		t.Errorf("%s: ts is %s, received %s", name, l.TS, l.Received)
	}
}

// compare compares members by value.
func compare(t *testing.T, name string, want map[string]json.RawMessage, got map[string][]byte) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: compares %d members with %d", name, len(got), len(want))
	}
	for k, w := range want {
		if g, w := canon(t, got[k]), canon(t, w); g != w {
			t.Errorf("%s: %s is %.200s, want %.200s", name, k, g, w)
		}
	}
}

// stateCase is one line of testdata/conformance/state.jsonl.
type stateCase struct {
	Name   string
	Phases []struct {
		Send     []stateSend
		Snapshot map[string]map[string]json.RawMessage
		WaitS    float64 `json:"wait_s"`
	}
}

type stateSend struct {
	Transport string
	Msg       map[string]json.RawMessage
}

// Scenarios as recorded. Where one waits before its snapshot, this test does
// not: it sends everything again with the sender's clock turned back by as
// much, which leaves the broker as if the time had passed.
func TestConformanceState(t *testing.T) {
	b := serve(t, t.TempDir(), "--snapshot-expire", "60s", "--snapshot-interval", "100ms")
	j := newJudge(t, b)
	for _, c := range cases[stateCase](t, "state.jsonl", 27) {
		var sends []stateSend
		var waited float64
		for i, phase := range c.Phases {
			again := phase.Send
			sends = append(sends, phase.Send...)
			if phase.WaitS > 0 {
				waited += phase.WaitS
				again = sends
			}
			name := fmt.Sprintf("%s, phase %d", c.Name, i+1)
			before := time.Now()
			latest := map[string]feedLine{}
			for _, send := range again {
				for _, l := range j.send(send, waited) {
					latest[l.NS] = l
				}
			}
			j.publishes("zmq")
			snapshot := j.feed.snapshot(t, j.seq)
			for ns, want := range phase.Snapshot {
				e, ok := snapshot.Data[ns]
				if ok != (want != nil) {
					t.Errorf("%s: %q is in the snapshot: %v", name, ns, ok)
				}
				if !ok || want == nil {
					continue
				}
				switch l, sent := latest[ns]; string(want["ts"]) {
				case `"<TS>"`:
					checkClock(t, name, l, before)
					fallthrough
				case `"@sent"`:
					if want["ts"] = l.TS; !sent { // in an earlier phase
						want["ts"] = e.TS
					}
				}
				compare(t, name, want, map[string][]byte{"data": e.Data, "ts": e.TS, "ns": strconv.AppendQuote(nil, e.NS), "documentation_url": e.Doc})
			}
		}
	}
}

// send sends a message with the sender's clock turned back, and gives what
// it brings.
func (j *judge) send(send stateSend, back float64) []feedLine {
	j.t.Helper()
	clock := float64(time.Now().UnixMicro())/1e6 - back
	message := []byte("{")
	for _, k := range slices.Sorted(maps.Keys(send.Msg)) {
		if len(message) > 1 {
			message = append(message, ", "...)
		}
		message = fmt.Appendf(message, `"%s": %s`, k, filledIn(j.t, send.Msg[k], clock))
	}
	message = append(message, '}')
	if send.Transport == "udp" {
		packed, err := msgpack.Marshal(unpackable(j.t, message))
		if err != nil {
			j.t.Fatal(err)
		}
		message = packed
	}
	return j.publishes(send.Transport, message)
}

// filledIn replaces what stands for a time or a number that JSON lacks.
func filledIn(t *testing.T, v json.RawMessage, clock float64) []byte {
	t.Helper()
	var number struct {
		F string `json:"$f"`
	}
	if json.Unmarshal(v, &number) == nil && number.F != "" {
		return []byte(number.F)
	}
	var s string
	if json.Unmarshal(v, &s) != nil || !strings.HasPrefix(s, "@now") {
		return v
	}
	if offset := strings.TrimPrefix(s, "@now"); offset != "" {
		f, err := strconv.ParseFloat(offset, 64)
		if err != nil {
			t.Fatal(err)
		}
		clock += f
	}
	return wire.AppendTS(nil, clock)
}
