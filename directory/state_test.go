package directory

import (
	"bufio"
	"encoding/json"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// stateCase is one line of testdata/state.jsonl.
type stateCase struct {
	Name   string
	Phases []struct {
		Send []struct {
			Msg map[string]json.RawMessage
		}
		Snapshot map[thing.Name]map[string]json.RawMessage
		WaitS    float64 `json:"wait_s"`
	}
}

// filled replaces what stands for a time or a number that JSON lacks.
func filled(t *testing.T, v json.RawMessage, now thing.Micros) json.RawMessage {
	t.Helper()
	var number struct {
		F string `json:"$f"`
	}
	if strings.HasPrefix(string(v), `{"$f"`) {
		if err := json.Unmarshal(v, &number); err != nil {
			t.Fatal(err)
		}
		return json.RawMessage(number.F)
	}
	var s string
	if json.Unmarshal(v, &s) != nil || !strings.HasPrefix(s, "@now") {
		return v
	}
	ts := now.Seconds()
	if offset := strings.TrimPrefix(s, "@now"); offset != "" {
		f, err := strconv.ParseFloat(offset, 64)
		if err != nil {
			t.Fatal(err)
		}
		ts += f
	}
	return wire.AppendTS(nil, ts)
}

// value makes JSON comparable; numbers keep their kind.
func value(t *testing.T, v []byte) any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(v)))
	dec.UseNumber()
	var got any
	if err := dec.Decode(&got); err != nil {
		t.Fatalf("%v: %s", err, v)
	}
	return got
}

func TestState(t *testing.T) {
	f, err := os.Open("testdata/state.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	cases := 0
	for lines.Scan() {
		var c stateCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases++
		t.Run(c.Name, func(t *testing.T) { playState(t, &c) })
	}
	if err := lines.Err(); err != nil || cases < 25 {
		t.Errorf("%d cases, %v", cases, err)
	}
}

func playState(t *testing.T, c *stateCase) {
	d := New(Options{})
	decoder := wire.NewDecoder(wire.Limits{})
	now := start
	sent := map[thing.Name]json.RawMessage{} // the ts of the last that was taken
	seq := uint64(0)
	for _, phase := range c.Phases {
		for _, send := range phase.Send {
			for k, v := range send.Msg {
				send.Msg[k] = filled(t, v, now)
			}
			var frame []byte
			for k, v := range send.Msg { // NaN is nothing for json.Marshal
				frame = append(append(append(append(frame, ", \""...), k...), "\": "...), v...)
			}
			var draft wire.Draft
			if _, err := decoder.JSON(nil, append(append([]byte("{"), frame[1:]...), '}'), &draft); err != nil {
				t.Logf("refused: %v", err)
				continue
			}
			u := thing.Update{Name: thing.Name(draft.NS), Data: draft.Data, Doc: draft.Doc, TS: draft.TS, Received: now}
			if !draft.HasTS {
				u.TS = now.Seconds()
			}
			seq++
			u.Seq, u.ThingSeq = seq, seq
			sent[u.Name] = wire.AppendTS(nil, u.TS)
			d.Apply([]thing.Update{u}, seq)
			now += 1000
		}
		now += thing.Micros(phase.WaitS * 1e6)
		got := parse(t, d.Snapshot(SnapshotOptions{Epoch: "ee", Now: now, Expire: time.Minute}))
		for name, want := range phase.Snapshot {
			e, ok := got[name]
			if ok != (want != nil) {
				t.Errorf("%q is there: %v", name, ok)
			}
			if !ok || want == nil {
				continue
			}
			if ts := string(want["ts"]); ts == `"@sent"` || ts == `"<TS>"` {
				want["ts"] = sent[name]
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(wire.AppendEntry(nil, &e), &object); err != nil {
				t.Fatal(err)
			}
			for k, v := range want {
				if a, b := value(t, object[k]), value(t, v); !reflect.DeepEqual(a, b) {
					t.Errorf("%q: %s is %v, want %v", name, k, a, b)
				}
			}
		}
	}
}
