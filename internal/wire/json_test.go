package wire

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"testing"

	"tbhist/thing"
)

// doc makes an update whose data is v.
func doc(v string) string {
	return `{"type": "thing_update", "ns": "a", "data": ` + v + `, "ts": 1.5}`
}

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestJSONTaken(t *testing.T) {
	for _, c := range []struct {
		name, frame string
		ns, data    string
		doc         string // "" for null
		ts          float64
		noTS        bool
		nonfinite   int
		surrogates  int
	}{
		{name: "white space around", frame: " \t\r\n" + doc("1") + "\n\r\t ", ns: "a", data: "1", ts: 1.5},
		{name: "white space inside", frame: doc("{ \"a\" :\t[ 1 ,\n2 ] , \"b\" : \" x  y \" }"), ns: "a", data: `{"a":[1,2],"b":" x  y "}`, ts: 1.5},
		{name: "digits stay", frame: doc("[1.0, 1e5, 1E+5, -0, -0.0, 0.1000000000000000055, 123456789012345678901234567890]"), ns: "a", data: "[1.0,1e5,1E+5,-0,-0.0,0.1000000000000000055,123456789012345678901234567890]", ts: 1.5},
		{name: "escapes stay", frame: doc(`"\u00e9\/\"\\\n\ud83d\ude00é"`), ns: "a", data: `"\u00e9\/\"\\\n\ud83d\ude00é"`, ts: 1.5},
		{name: "root", frame: `{"type": "thing_update", "ns": "", "data": null}`, ns: "", data: "null", noTS: true},
		{name: "escaped names", frame: `{"\u0074ype": "thing_\u0075pdate", "n\u0073": "a\u002eb", "data": 1, "documentation_\u0075rl": "d"}`, ns: "a.b", data: "1", doc: `"d"`, noTS: true},
		{name: "last of two names", frame: `{"type": "x", "ns": "A", "data": 1, "ts": "x", "documentation_url": 1, "type": "thing_update", "ns": "b", "data": 2, "ts": 3, "documentation_url": null}`, ns: "b", data: "2", ts: 3},
		{name: "names that differ in escapes only", frame: doc(`{"a": 1, "\u0061": 2}`), ns: "a", data: `{"\u0061":2}`, ts: 1.5},
		{name: "double names inside", frame: doc(`[{"a": 1, "b": {"x": 1, "x": {"y": 1, "y": 2}}, "a": [3, {"c": 4, "c": 5}]}]`), ns: "a", data: `[{"a":[3,{"c":5}],"b":{"x":{"y":2}}}]`, ts: 1.5},
		{name: "not finite", frame: `["a", 1, [NaN, Infinity, -Infinity, 1e400, -1e999, 1.5], {"x": NaN}]`, ns: "a", data: "[null,null,null,null,null,1.5]", doc: `{"x":null}`, ts: 1, nonfinite: 6},
		{name: "a float of many digits", frame: doc("[" + strings.Repeat("9", 309) + ".5]"), ns: "a", data: "[null]", ts: 1.5, nonfinite: 1},
		{name: "an integer beyond float64", frame: doc(strings.Repeat("9", 400)), ns: "a", data: strings.Repeat("9", 400), ts: 1.5},
		{name: "words in strings", frame: doc(`["NaN", NaN, ":NaN", ",Infinity]", "\\", "\"NaN"]`), ns: "a", data: `["NaN",null,":NaN",",Infinity]","\\","\"NaN"]`, ts: 1.5, nonfinite: 1},
		{name: "white space around words", frame: doc("[ NaN , \n-Infinity ]"), ns: "a", data: "[null,null]", ts: 1.5, nonfinite: 2},
		{name: "doc not finite", frame: `["a", null, 1, NaN]`, ns: "a", data: "1", noTS: true, nonfinite: 1},
		{name: "lone surrogates", frame: doc(`["\ud800", "\uDC00x", "\ud800\ud800\udc00", "\\ud800", "\ud800\u0041", "\ud83d\ude00"]`), ns: "a", data: `["\ufffd","\ufffdx","\ufffd\ud800\udc00","\\ud800","\ufffd\u0041","\ud83d\ude00"]`, ts: 1.5, surrogates: 4},
		{name: "lone surrogates in names", frame: doc(`{"\ud800": 1, "\udfff": 2}`), ns: "a", data: `{"\ufffd":2}`, ts: 1.5, surrogates: 2},
		{name: "what is dropped is not counted", frame: `{"type": "thing_update", "ns": "a", "data": "\udc00", "x": ["\ud800", NaN], "documentation_url": "\ud800"}`, ns: "a", data: `"\ufffd"`, doc: `"\ufffd"`, noTS: true, surrogates: 2},
		{name: "depth 512", frame: doc(nested(511)), ns: "a", data: nested(511), ts: 1.5},
		{name: "brackets in strings", frame: doc(`"` + strings.Repeat("[", 600) + `\"{"`), ns: "a", data: `"` + strings.Repeat("[", 600) + `\"{"`, ts: 1.5},
		{name: "many shallow brackets", frame: doc("[" + strings.Repeat("[],", 600) + "{}]"), ns: "a", data: "[" + strings.Repeat("[],", 600) + "{}]", ts: 1.5},
		{name: "a number of 1000 characters", frame: doc(strings.Repeat("1", 1000)), ns: "a", data: strings.Repeat("1", 1000), ts: 1.5},
		{name: "ts at the bound", frame: `["a", -1e11, 1, null]`, ns: "a", data: "1", ts: -1e11},
		{name: "ts that underflows", frame: `["a", 1e-999, 1, null]`, ns: "a", data: "1", ts: 0},
		{name: "DEL and line separators", frame: doc("\"\x7f\u2028\u2029\""), ns: "a", data: "\"\x7f\u2028\u2029\"", ts: 1.5},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Draft
			arena, err := NewDecoder(Limits{}).JSON([]byte("before"), []byte(c.frame), &got)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(arena, []byte("before")) {
				t.Errorf("arena is %.40q", arena)
			}
			if string(got.NS) != c.ns || string(got.Data) != c.data || string(got.Doc) != c.doc || (got.Doc == nil) != (c.doc == "") {
				t.Errorf("got %.900q %.900q %.900q", got.NS, got.Data, got.Doc)
			}
			if got.TS != c.ts || got.HasTS == c.noTS {
				t.Errorf("ts %v %v", got.TS, got.HasTS)
			}
			if got.Nonfinite != c.nonfinite || got.Surrogates != c.surrogates {
				t.Errorf("counted %d not finite, %d surrogates", got.Nonfinite, got.Surrogates)
			}
			checkLine(t, AppendUpdate(nil, updateOf(&got)))
		})
	}
}

func TestJSONRefused(t *testing.T) {
	long := strings.Repeat("1", 1001)
	for frame, want := range map[string]thing.Reason{
		"":                                  thing.ReasonEmpty,
		" \n":                               thing.ReasonNotJSON,
		"\ufeff" + doc("1"):                 thing.ReasonNotJSON,
		"\v" + doc("1"):                     thing.ReasonNotJSON,
		doc("1") + "\x00":                   thing.ReasonNotJSON,
		doc("1") + " x":                     thing.ReasonNotJSON,
		doc("1") + doc("1"):                 thing.ReasonNotJSON,
		doc("1")[:40]:                       thing.ReasonNotJSON,
		doc("[NaN") + "]":                   thing.ReasonNotJSON,
		doc("-NaN"):                         thing.ReasonNotJSON,
		doc("+Infinity"):                    thing.ReasonNotJSON,
		doc("--Infinity"):                   thing.ReasonNotJSON,
		doc("NaNa"):                         thing.ReasonNotJSON,
		doc("1NaN"):                         thing.ReasonNotJSON,
		doc("nan"):                          thing.ReasonNotJSON,
		doc("Infinity1"):                    thing.ReasonNotJSON,
		doc("NaN NaN"):                      thing.ReasonNotJSON,
		doc("{NaN: 1}"):                     thing.ReasonNotJSON,
		doc(`"\ud80"`):                      thing.ReasonNotJSON,
		doc(`"\uD8zz"`):                     thing.ReasonNotJSON,
		doc("\"a\nb\""):                     thing.ReasonNotJSON,
		doc("01"):                           thing.ReasonNotJSON,
		doc(".5"):                           thing.ReasonNotJSON,
		doc("[1,]"):                         thing.ReasonNotJSON,
		doc("'a'"):                          thing.ReasonNotJSON,
		doc("\"\xff\""):                     thing.ReasonNotUTF8,
		doc("\"\xed\xa0\x80\""):             thing.ReasonNotUTF8,
		doc("\"\xc0\xaf\""):                 thing.ReasonNotUTF8,
		"\xff":                              thing.ReasonNotUTF8,
		doc(nested(512)):                    thing.ReasonTooDeep,
		doc(nested(600)) + "x":              thing.ReasonTooDeep,
		strings.Repeat("[", 100_000):        thing.ReasonTooDeep,
		strings.Repeat(`{"a":`, 513):        thing.ReasonTooDeep,
		doc(long):                           thing.ReasonNumberLength,
		doc("[-" + long + "]"):              thing.ReasonNumberLength,
		`["a", ` + long + `, 1, null]`:      thing.ReasonNumberLength,
		`["A", 1, 1, ` + long + `]`:         thing.ReasonNumberLength,
		`["a", 1, 1, 1, [` + long + `]]`:    thing.ReasonNumberLength,
		`{"x": [` + long + `]}`:             thing.ReasonNumberLength,
		`{"type": [` + long + `]}`:          thing.ReasonNumberLength,
		`{"ns": [` + long + `]}`:            thing.ReasonNumberLength,
		`["a", [` + long + `], 1, null]`:    thing.ReasonNumberLength,
		`{"data": ` + long + `, "data": 1}`: thing.ReasonNumberLength,
		"1":                                 thing.ReasonShape,
		`"thing_update"`:                    thing.ReasonShape,
		"NaN":                               thing.ReasonShape,
		"[]":                                thing.ReasonShape,
		`["a", 1, 1, null, 1]`:              thing.ReasonShape,
		"{}":                                thing.ReasonType,
		`{"type": "thing_updat"}`:           thing.ReasonType,
		`{"type": "thing_update "}`:         thing.ReasonType,
		`{"type": "thing_snapshot"}`:        thing.ReasonType,
		`{"type": "thing_update"}`:          thing.ReasonNSMissing,
		`{"type":"thing_update","data":1}`:  thing.ReasonNSMissing,
		`[null, 1, 1, null]`:                thing.ReasonNS,
		`["a\n", 1, 1, null]`:               thing.ReasonNS,
		`["\ud800", 1, 1, null]`:            thing.ReasonNS,
		`{"type":"thing_update","ns":"a"}`:  thing.ReasonDataMissing,
		`["a", "5", 1, null]`:               thing.ReasonTSType,
		`["a", false, 1, null]`:             thing.ReasonTSType,
		`["a", [], 1, null]`:                thing.ReasonTSType,
		`["a", NaN, 1, null]`:               thing.ReasonTSRange,
		`["a", -Infinity, 1, null]`:         thing.ReasonTSRange,
		`["a", 1e400, 1, null]`:             thing.ReasonTSRange,
		`["a", 1.00000000001e11, 1, null]`:  thing.ReasonTSRange,
		`["a", 1700000000000, 1, null]`:     thing.ReasonTSRange,
		strings.Repeat(" ", 1<<20) + "1":    thing.ReasonTooLarge,
		`["A", "x", "` + "\xff" + `", null`: thing.ReasonNotUTF8,
	} {
		var got Draft
		arena, err := NewDecoder(Limits{}).JSON([]byte("before"), []byte(frame), &got)
		if err == nil {
			t.Errorf("%.80q was taken", frame)
			continue
		}
		if string(arena) != "before" {
			t.Errorf("%.80q: arena is %.40q", frame, arena)
		}
		if r := reasonOf(t, err); r != want {
			t.Errorf("%.80q: %v, want %v", frame, r, want)
		}
	}
}

func TestJSONSize(t *testing.T) {
	d := NewDecoder(Limits{MaxBytes: 100})
	frame := doc("1")
	frame += strings.Repeat(" ", 100-len(frame))
	var got Draft
	if _, err := d.JSON(nil, []byte(frame), &got); err != nil {
		t.Errorf("100 bytes: %v", err)
	}
	if _, err := d.JSON(nil, []byte(frame+" "), &got); err == nil {
		t.Error("101 bytes were taken")
	}
}

// A decoder goes on unharmed behind a message of any kind, and what it gave
// out before stays as it was.
func TestDecoderReuse(t *testing.T) {
	d := NewDecoder(Limits{})
	var arena []byte
	var first, second Draft
	var err error
	if arena, err = d.JSON(arena, []byte(doc(`["first", NaN]`)), &first); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"{", doc("[" + strings.Repeat(`{"a":"\ud800","a":NaN},`, 9000) + "1]"), "\xff", doc(nested(900)), doc("1") + "x", ""} {
		arena, _ = d.JSON(arena, []byte(bad), &second)
		arena, _ = d.Msgpack(arena, []byte(bad), &second)
	}
	if _, err = d.JSON(arena, []byte(doc(`{"b":2}`)), &second); err != nil {
		t.Fatal(err)
	}
	if string(first.Data) != `["first",null]` || string(second.Data) != `{"b":2}` || second.Nonfinite != 0 {
		t.Errorf("got %q and %q, %d", first.Data, second.Data, second.Nonfinite)
	}
	if cap(d.mended.doc) > keepScratch || cap(d.scratch) > keepScratch {
		t.Error("scratch memory of a large message is kept")
	}
}

func TestAppendTS(t *testing.T) {
	for ts, want := range map[float64]string{
		0: "0.0", 5: "5.0", -5: "-5.0", 1.5: "1.5", 1423351104.945123: "1423351104.945123", 1e11: "100000000000.0",
		1e15: "1000000000000000.0", 9999999999999998: "9999999999999998.0", 1e16: "1e+16", 1e22: "1e+22", 0.0001: "0.0001",
		0.00001: "1e-05", 5e-324: "5e-324", 1.7976931348623157e308: "1.7976931348623157e+308", 0.1: "0.1",
		1.100000023841858: "1.100000023841858", 123456789.5: "123456789.5", -0.25: "-0.25",
	} {
		if got := string(AppendTS(nil, ts)); got != want {
			t.Errorf("%v is %s, want %s", ts, got, want)
		}
	}
	if got := string(AppendTS(nil, math.Copysign(0, -1))); got != "-0.0" {
		t.Errorf("-0.0 is %s", got)
	}
}

func FuzzAppendTS(f *testing.F) {
	f.Add(1423351104.945)
	f.Add(5.0)
	f.Fuzz(func(t *testing.T, ts float64) {
		if math.IsNaN(ts) || math.IsInf(ts, 0) {
			return
		}
		got := string(AppendTS(nil, ts))
		back, err := strconv.ParseFloat(got, 64)
		if err != nil || math.Float64bits(back) != math.Float64bits(ts) || !strings.ContainsAny(got, ".e") {
			t.Errorf("%v is %s", ts, got)
		}
		checkLine(t, []byte(got))
	})
}

func TestMicros(t *testing.T) {
	for m, want := range map[thing.Micros]string{
		0: "0.0", 5e6: "5.0", 1423351104_945123: "1423351104.945123", 1423351104_900000: "1423351104.9", 1: "0.000001",
		-1: "-0.000001", -5500000: "-5.5", 1e17: "100000000000.0", -1e17: "-100000000000.0", 99999999999_999999: "99999999999.999999",
	} {
		got := string(AppendMicros(nil, m))
		if got != want {
			t.Errorf("%d is %s, want %s", m, got, want)
		}
		if back, ok := parseMicros([]byte(got)); !ok || back != m {
			t.Errorf("%s read as %d, %v", got, back, ok)
		}
	}
	if got := string(AppendMicros(nil, math.MinInt64)); got != "-9223372036854.775808" {
		t.Errorf("the least is %s", got)
	}
	for s, want := range map[string]thing.Micros{"5": 5e6, "1e3": 1e9, "-3600": -3600e6, "1.00000049": 1e6, "1.0000006": 1000001, "100000000000": 1e17, "0.1e1": 1e6} {
		if got, ok := parseMicros([]byte(s)); !ok || got != want {
			t.Errorf("%s is %d, %v", s, got, ok)
		}
	}
	for _, s := range []string{"1e400", "1e12", "100000000000.000001", "99999999999999999999", "null", `"5"`, "true"} {
		if got, ok := parseMicros([]byte(s)); ok {
			t.Errorf("%s was taken as %d", s, got)
		}
	}
}

func TestTruthy(t *testing.T) {
	for doc, want := range map[string]bool{
		"": false, "null": false, `""`: false, "0": false, "-0": false, "0.0": false, "0e5": false, "-0.000E+7": false, "false": false,
		"[]": false, "{}": false, "1e-400": false, `"x"`: true, "5": true, "0.1": true, "-1": true, "true": true, "[0]": true, `{"a":1}`: true,
		`"0"`: true, "1e-300": true, "10": true, "0.0e1": false, "00": false, "5e-324": true,
	} {
		if got := Truthy([]byte(doc)); got != want {
			t.Errorf("Truthy(%s) = %v", doc, got)
		}
	}
	if Truthy(nil) {
		t.Error("nil is true")
	}
}
