package wire

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"tbhist/thing"
)

// pack4 makes the list form: ns "a", ts nil, data, doc nil.
func pack4(data string) string { return "\x94\xa1a\xc0" + data + "\xc0" }

func be[T uint16 | uint32 | uint64](v T) string {
	b, _ := binary.Append(nil, binary.BigEndian, v)
	return string(b)
}

func TestMsgpackTaken(t *testing.T) {
	for _, c := range []struct {
		name, in  string
		data, doc string
		ts        float64
		hasTS     bool
		nonfinite int
	}{
		{name: "ints", in: pack4("\x99\x00\x7f\xff\xe0\xcc\xff\xcd\xff\xff\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xd3\x80\x00\x00\x00\x00\x00\x00\x00\xd0\x05"), data: "[0,127,-1,-32,255,65535,18446744073709551615,-9223372036854775808,5]"},
		{name: "32-bit ints", in: pack4("\x93\xce\xff\xff\xff\xff\xd2\x80\x00\x00\x00\xd1\x80\x00"), data: "[4294967295,-2147483648,-32768]"},
		{name: "floats", in: pack4("\x94\xca\x3d\xcc\xcc\xcd\xcb\x80\x00\x00\x00\x00\x00\x00\x00\xcb" + be(math.Float64bits(1e22)) + "\xcb" + be(math.Float64bits(2))), data: "[0.10000000149011612,-0.0,1e+22,2.0]"},
		{name: "not finite", in: "\x94\xa1a\xc0\x93\xca\x7f\xc0\x00\x00\xcb" + be(math.Float64bits(math.Inf(-1))) + "\x01\xca\x7f\x80\x00\x00", data: "[null,null,1]", nonfinite: 3},
		{name: "words", in: pack4("\x93\xc0\xc2\xc3"), data: "[null,false,true]"},
		{name: "texts", in: pack4("\x93\xa0\xd9\x02\xc3\xa9\xdb\x00\x00\x00\x05\"\\\n\x01\x7f"), data: "[\"\",\"é\",\"\\\"\\\\\\n\\u0001\x7f\"]"},
		{name: "bin", in: pack4("\x92\xc4\x00\xc5\x00\x04\x00\xff\x10x"), data: `["","AP8QeA=="]`},
		{name: "keys", in: pack4("\x89\x01\x01\xff\x02\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x03\xca\x40\x00\x00\x00\x04\xc3\x05\xc2\x06\xc0\x07\xc4\x01k\x08\xa1k\x09"), data: `{"1":1,"-1":2,"1.5":3,"2.0":4,"true":5,"false":6,"null":7,"aw==":8,"k":9}`},
		{name: "keys that are not finite", in: pack4("\x82\xca\x7f\xc0\x00\x00\x01\xca\xff\x80\x00\x00\x02"), data: `{"NaN":1,"-Infinity":2}`},
		{name: "a timestamp as key", in: pack4("\x81\xd6\xff\x00\x00\x00\x05\x01"), data: `{"5.0":1}`},
		{name: "keys that become one", in: pack4("\x91\x84\x01\xa1a\xa3two\xa1b\xa11\xa1c\xc3\x01"), data: `[{"1":"c","two":"b","true":1}]`},
		{name: "timestamps", in: pack4("\x93\xd6\xff\x00\x00\x00\x01\xd7\xff" + be(uint64(500_000_000)<<34|7) + "\xc7\x0c\xff" + be(uint32(250_000_000)) + be(^uint64(0))), data: "[1.0,7.5,-0.75]"},
		{name: "ts float32", in: "\x94\xa1a\xca\x3f\x8c\xcc\xcd\x01\xc0", data: "1", ts: 1.100000023841858, hasTS: true},
		{name: "ts uint64", in: "\x94\xa1a\xcf\x00\x00\x00\x00\x00\x00\x00\x05\x01\xc0", data: "1", ts: 5, hasTS: true},
		{name: "ts negative", in: "\x94\xa1a\xff\x01\xc0", data: "1", ts: -1, hasTS: true},
		{name: "ts timestamp", in: "\x94\xa1a\xd7\xff" + be(uint64(500_000_000)<<34|7) + "\x01\xc0", data: "1", ts: 7.5, hasTS: true},
		{name: "what trails is ignored", in: pack4("\x01") + "\xc1\xff", data: "1"},
		{name: "wide headers", in: "\xdd\x00\x00\x00\x04\xdb\x00\x00\x00\x01a\xc0\xdf\x00\x00\x00\x01\xda\x00\x01k\xdc\x00\x00\xc0", data: `{"k":[]}`},
		{name: "last of two keys", in: "\x89\xa4type\x01\xa4type\xacthing_update\xa2ns\x01\xa2ns\xa1a\xa4data\xca\x7f\xc0\x00\x00\xa4data\x02\xa2ts\x05\xa2ts\xc0\xb1documentation_url\xc4\x01x", data: "2", doc: `"eA=="`},
		{name: "ext that is dropped", in: "\x84\xa4type\xacthing_update\xa2ns\xa1a\xa4data\x01\xa1x\x91\xd4\x05\x00", data: "1"},
		{name: "ext as a key that is dropped", in: "\x84\xa4type\xacthing_update\xa2ns\xa1a\xa4data\x01\xd4\x05\x00\x01", data: "1"},
		{name: "depth 512", in: pack4(strings.Repeat("\x91", 510) + "\x90"), data: nested(511)},
		{name: "doc nil", in: "\x94\xa1a\xc0\x01\xc0", data: "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Draft
			_, err := NewDecoder(Limits{}).Msgpack([]byte("before"), []byte(c.in), &got)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.NS) != "a" || string(got.Data) != c.data || string(got.Doc) != c.doc || (got.Doc == nil) != (c.doc == "") {
				t.Errorf("got %.600q %q", got.Data, got.Doc)
			}
			if got.TS != c.ts || got.HasTS != c.hasTS || got.Nonfinite != c.nonfinite {
				t.Errorf("ts %v %v, %d not finite", got.TS, got.HasTS, got.Nonfinite)
			}
			checkLine(t, AppendUpdate(nil, updateOf(&got)))
		})
	}
}

func TestMsgpackRefused(t *testing.T) {
	for in, want := range map[string]thing.Reason{
		"":                                                thing.ReasonEmpty,
		"\xc1":                                            thing.ReasonNotMsgpack,
		"\x94\xa1a\xc0":                                   thing.ReasonNotMsgpack,
		"\x94\xa1a\xc0\x01":                               thing.ReasonNotMsgpack,
		pack4("\xc1"):                                     thing.ReasonNotMsgpack,
		pack4("\xcf\x00"):                                 thing.ReasonNotMsgpack,
		pack4("\xdb\xff\xff\xff\xff"):                     thing.ReasonNotMsgpack,
		pack4("\xdb\x7f\xff\xff\xff"):                     thing.ReasonNotMsgpack,
		pack4("\xc6\xff\xff\xff\xff"):                     thing.ReasonNotMsgpack,
		pack4("\xc6\x80\x00\x00\x00"):                     thing.ReasonNotMsgpack,
		pack4("\xdd\xff\xff\xff\xff"):                     thing.ReasonNotMsgpack,
		pack4("\xdf\xff\xff\xff\xff"):                     thing.ReasonNotMsgpack,
		pack4("\xc9\xff\xff\xff\xff\xff"):                 thing.ReasonNotMsgpack,
		"\xdf\x80\x00\x00\x00":                            thing.ReasonNotMsgpack,
		"\x81\xa1x\xc1":                                   thing.ReasonNotMsgpack,
		"\x81\xdb\xff\xff\xff\xffx":                       thing.ReasonNotMsgpack,
		pack4("\xa1\xff"):                                 thing.ReasonNotUTF8,
		pack4("\x81\xa1\xff\x01"):                         thing.ReasonNotUTF8,
		pack4("\xa3\xed\xa0\x80"):                         thing.ReasonNotUTF8,
		"\x81\xa1x\xa1\xff":                               thing.ReasonNotUTF8,
		"\x94\xa1\xff\xc0\x01\xc0":                        thing.ReasonNotUTF8,
		pack4("\xd4\x05\x00"):                             thing.ReasonExt,
		pack4("\x81\xd4\x05\x00\x01"):                     thing.ReasonExt,
		pack4("\xd4\xff\x00"):                             thing.ReasonExt,
		"\x94\xa1a\xd4\x05\x00\x01\xc0":                   thing.ReasonExt,
		pack4("\xd7\xff" + be(^uint64(0))):                thing.ReasonExt,
		pack4(strings.Repeat("\x91", 512)):                thing.ReasonTooDeep,
		strings.Repeat("\x91", 60000):                     thing.ReasonTooDeep,
		strings.Repeat("\x81\xa1a", 20000):                thing.ReasonTooDeep,
		pack4("\x81\x90\x01"):                             thing.ReasonShape,
		pack4("\x81\x80\x01"):                             thing.ReasonShape,
		"\x81\x90\x01":                                    thing.ReasonShape,
		"\x90":                                            thing.ReasonShape,
		"\x93\xa1a\xc0\x01":                               thing.ReasonShape,
		"\x95\xa1a\xc0\x01\xc0\x01":                       thing.ReasonShape,
		"\xa1a":                                           thing.ReasonShape,
		"\xd6\xff\x00\x00\x00\x01":                        thing.ReasonShape,
		"\x80":                                            thing.ReasonType,
		"\x81\xc4\x04type\x01":                            thing.ReasonType,
		"\x81\xa4type\xacthing_update":                    thing.ReasonNSMissing,
		"\x94\xc4\x01a\xc0\x01\xc0":                       thing.ReasonNS,
		"\x94\xc0\xc0\x01\xc0":                            thing.ReasonNS,
		"\x94\xa1A\xc0\x01\xc0":                           thing.ReasonNS,
		"\x94\xa1a\xa15\x01\xc0":                          thing.ReasonTSType,
		"\x94\xa1a\xc3\x01\xc0":                           thing.ReasonTSType,
		"\x94\xa1a\xc4\x00\x01\xc0":                       thing.ReasonTSType,
		"\x94\xa1a\x90\x01\xc0":                           thing.ReasonTSType,
		"\x94\xa1a\xca\x7f\xc0\x00\x00\x01\xc0":           thing.ReasonTSRange,
		"\x94\xa1a\xca\xff\x80\x00\x00\x01\xc0":           thing.ReasonTSRange,
		"\x94\xa1a\xcf" + be(uint64(1e11+1)) + "\x01\xc0": thing.ReasonTSRange,
		"\x82\xa4type\xacthing_update\xa2ns\xa1a":         thing.ReasonDataMissing,
		"\x86\xa4type\xacthing_update\xa2ns\xa1a\xa4data\x01\xa1x\xc1": thing.ReasonNotMsgpack,
		strings.Repeat("\xc0", 1<<20+1):                                thing.ReasonTooLarge,
	} {
		var got Draft
		arena, err := NewDecoder(Limits{}).Msgpack([]byte("before"), []byte(in), &got)
		if err == nil {
			t.Errorf("%.60q was taken", in)
			continue
		}
		if string(arena) != "before" {
			t.Errorf("%.60q: arena is %.40q", in, arena)
		}
		if r := reasonOf(t, err); r != want {
			t.Errorf("%.60q: %v, want %v", in, r, want)
		}
	}
}

// A header that announces gigabytes costs nothing.
func TestMsgpackAnnouncesMuch(t *testing.T) {
	d := NewDecoder(Limits{})
	arena := make([]byte, 0, 4096)
	var got Draft
	for _, in := range []string{pack4("\xdb\xff\xff\xff\xff"), pack4("\xc6\x7f\xff\xff\xff"), pack4("\xdd\xff\xff\xff\xff"), pack4("\xdf\x7f\xff\xff\xff"), pack4("\xc9\x7f\xff\xff\xff\x05")} {
		b := []byte(in)
		if n := testing.AllocsPerRun(10, func() { _, _ = d.Msgpack(arena, b, &got) }); n > 0 {
			t.Errorf("%q: %v allocations", in, n)
		}
	}
}
