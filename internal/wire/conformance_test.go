package wire

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"tbhist/thing"
)

type recipe struct {
	Head, Unit string
	Count      int
	Tail       string
}

func (r recipe) bytes() []byte {
	return []byte(r.Head + strings.Repeat(r.Unit, r.Count) + r.Tail)
}

// inputCase is one line of testdata/input.jsonl.
type inputCase struct {
	Name, Transport string
	Payload         []byte          `json:"payload_b64"`
	Frames          [][]byte        `json:"frames_b64"`
	Recipe          *recipe         `json:"payload_recipe"`
	Expect          json.RawMessage `json:"expect"`
	ExpectRecipe    []recipe        `json:"expect_recipe"`
}

func inputCases(t testing.TB) []inputCase {
	f, err := os.Open("testdata/input.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []inputCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var c inputCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		switch {
		case c.Recipe != nil:
			c.Frames = [][]byte{c.Recipe.bytes()}
		case c.Frames == nil:
			c.Frames = [][]byte{c.Payload}
		}
		all = append(all, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(all) < 200 {
		t.Fatalf("only %d cases", len(all))
	}
	return all
}

// wanted gives the messages that a case expects; any is true where each
// outcome will do.
func (c *inputCase) wanted(t testing.TB) (want []json.RawMessage, survive bool) {
	switch string(c.Expect) {
	case `"survive"`:
		return nil, true
	case `"recipe"`:
		for _, r := range c.ExpectRecipe {
			want = append(want, r.bytes())
		}
		return want, false
	}
	if err := json.Unmarshal(c.Expect, &want); err != nil {
		t.Fatal(err)
	}
	return want, false
}

func TestConformance(t *testing.T) {
	d := NewDecoder(Limits{})
	var arena []byte
	for _, c := range inputCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			want, survive := c.wanted(t)
			var got [][]byte
			for _, frame := range c.Frames {
				decode := d.JSON
				if c.Transport == "udp" {
					decode = d.Msgpack
				}
				var draft Draft
				var err error
				before := len(arena)
				arena, err = decode(arena, frame, &draft)
				if err != nil {
					if len(arena) != before {
						t.Errorf("a refused message left %d bytes in the arena", len(arena)-before)
					}
					t.Logf("refused: %v", reasonOf(t, err))
					continue
				}
				line := AppendUpdate(nil, updateOf(&draft))
				checkLine(t, line)
				got = append(got, line)
				if !draft.HasTS && draft.TS != 0 {
					t.Errorf("no ts, but it is %v", draft.TS)
				}
			}
			arena = arena[:0]
			if survive {
				return
			}
			if len(got) != len(want) {
				t.Fatalf("got %d messages, want %d: %.300s", len(got), len(want), got)
			}
			for i := range want {
				compare(t, got[i], want[i])
			}
		})
	}
}

// compare compares the five original members by value.
func compare(t *testing.T, got []byte, want json.RawMessage) {
	t.Helper()
	var g, w map[string]json.RawMessage
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if string(w["ts"]) == `"<TS>"` {
		w["ts"] = json.RawMessage("0.0") // the caller's clock comes in here
	}
	for _, m := range []string{"type", "ns", "data", "ts", "documentation_url"} {
		if a, b := canon(t, g[m]), canon(t, w[m]); a != b {
			t.Errorf("%s is %.200s, want %.200s", m, a, b)
		}
	}
}

// Cases of the table that a message may be refused for have the reason that
// their name tells.
func TestConformanceReasons(t *testing.T) {
	reasons := map[string]thing.Reason{
		"zmq/ts/string": thing.ReasonTSType, "zmq/ts/true": thing.ReasonTSType, "zmq/ts/huge": thing.ReasonTSRange,
		"zmq/ts/overflow": thing.ReasonTSRange, "zmq/ts/nan": thing.ReasonTSRange, "zmq/ts/neg-inf": thing.ReasonTSRange,
		"zmq/ts/big-int": thing.ReasonTSRange, "zmq/ns/upper": thing.ReasonNS, "zmq/ns/number": thing.ReasonNS,
		"zmq/ns/missing": thing.ReasonNSMissing, "zmq/data/missing": thing.ReasonDataMissing,
		"zmq/data/int-4300-digits": thing.ReasonNumberLength, "zmq/data/deep-array-900": thing.ReasonTooDeep,
		"zmq/data/deep-array-10000": thing.ReasonTooDeep, "zmq/type/null": thing.ReasonType, "zmq/case/keys": thing.ReasonType,
		"zmq/snapshot/nodata": thing.ReasonType, "zmq/list/3": thing.ReasonShape, "zmq/list/4-ns-null": thing.ReasonNS,
		"zmq/top/null": thing.ReasonShape, "zmq/top/nan": thing.ReasonShape, "zmq/top/empty-object": thing.ReasonType,
		"zmq/bad/empty-frame": thing.ReasonEmpty, "zmq/bad/space": thing.ReasonNotJSON, "zmq/bad/two-docs-nl": thing.ReasonNotJSON,
		"zmq/bad/non-utf8-in-string": thing.ReasonNotUTF8, "zmq/bad/bom": thing.ReasonNotJSON, "zmq/bad/neg-nan": thing.ReasonNotJSON,
		"zmq/bad/msgpack-on-zmq": thing.ReasonNotUTF8, "udp/dict/no-type": thing.ReasonType, "udp/list/0": thing.ReasonShape,
		"udp/ts/str": thing.ReasonTSType, "udp/ns/upper": thing.ReasonNS, "udp/data/ext": thing.ReasonExt,
		"udp/data/invalid-utf8-str": thing.ReasonNotUTF8, "udp/mapkey/map": thing.ReasonShape, "udp/type/bin": thing.ReasonType,
		"udp/frame/truncated": thing.ReasonNotMsgpack, "udp/frame/c1": thing.ReasonNotMsgpack, "udp/frame/json": thing.ReasonShape,
		"udp/frame/declared-4G-array": thing.ReasonNotMsgpack, "udp/deep/array-4000": thing.ReasonTooDeep,
	}
	d := NewDecoder(Limits{})
	seen := 0
	for _, c := range inputCases(t) {
		want, ok := reasons[c.Name]
		if !ok {
			continue
		}
		seen++
		decode := d.JSON
		if c.Transport == "udp" {
			decode = d.Msgpack
		}
		var draft Draft
		_, err := decode(nil, c.Frames[0], &draft)
		if err == nil {
			t.Errorf("%s: taken", c.Name)
		} else if got := reasonOf(t, err); got != want {
			t.Errorf("%s: %v, want %v", c.Name, got, want)
		}
	}
	if seen != len(reasons) {
		t.Errorf("%d of %d cases found", seen, len(reasons))
	}
}
