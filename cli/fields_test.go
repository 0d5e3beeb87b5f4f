package cli

import (
	"strings"
	"testing"

	"tbhist/thing"
)

func TestParseFields(t *testing.T) {
	for _, s := range []string{"", ",", "a,", "a..b", ".a", "a.", "a,b,a"} {
		if got, err := parseFields(s); err == nil {
			t.Errorf("parseFields(%q) = %v", s, got)
		}
	}
}

func TestFields(t *testing.T) {
	updates := []thing.Update{
		{Name: "shop.t", Received: 1795370265972518, TS: 5, Seq: 1, ThingSeq: 1, Data: []byte(`{"a":1.50,"b":{"c":true,"d":[10,"x, \"y\""]},"time":7}`)},
		{Name: "shop.t", Received: 1795370266000000, TS: 6.5, Seq: 2, ThingSeq: 2, Data: []byte(`{"a":12345678901234567890123,"b":{"c":null}}`)},
		{Name: "", Received: 1795370267000000, TS: 7, Data: []byte(`[1,2]`)},
		{Name: "shop.door", Received: 1795370268000000, TS: 8, Seq: 3, ThingSeq: 1, Data: []byte(`"open"`)},
	}
	const paths = "a, b.c,b.d.1,b,time,0,b.d.7,none"
	for _, c := range []struct {
		format string
		byTS   bool
		want   string
	}{
		{"csv", false, "time,ns,a,b.c,b.d.1,b,data.time,0,b.d.7,none\r\n" +
			`1795370265.972518,shop.t,1.50,true,"x, ""y""","{""c"":true,""d"":[10,""x, \""y\""""]}",7,,,` + "\r\n" +
			`1795370266.0,shop.t,12345678901234567890123,,,"{""c"":null}",,,,` + "\r\n" +
			`1795370267.0,,,,,,,1,,` + "\r\n" +
			`1795370268.0,shop.door,,,,,,,,` + "\r\n"},
		{"json", true, `{"time": 5.0, "ns": "shop.t", "a": 1.50, "b.c": true, "b.d.1": "x, \"y\"", "b": {"c":true,"d":[10,"x, \"y\""]}, "data.time": 7, "0": null, "b.d.7": null, "none": null}
{"time": 6.5, "ns": "shop.t", "a": 12345678901234567890123, "b.c": null, "b.d.1": null, "b": {"c":null}, "data.time": null, "0": null, "b.d.7": null, "none": null}
{"time": 7.0, "ns": "", "a": null, "b.c": null, "b.d.1": null, "b": null, "data.time": null, "0": 1, "b.d.7": null, "none": null}
{"time": 8.0, "ns": "shop.door", "a": null, "b.c": null, "b.d.1": null, "b": null, "data.time": null, "0": null, "b.d.7": null, "none": null}
`},
		{"text", true, `1970-01-01T00:00:05.000Z shop.t a=1.50 b.c=true b.d.1="x, \"y\"" b={"c":true,"d":[10,"x, \"y\""]} data.time=7 0=- b.d.7=- none=-
1970-01-01T00:00:06.500Z shop.t a=12345678901234567890123 b.c=null b.d.1=- b={"c":null} data.time=- 0=- b.d.7=- none=-
1970-01-01T00:00:07.000Z "" a=- b.c=- b.d.1=- b=- data.time=- 0=1 b.d.7=- none=- (not kept)
1970-01-01T00:00:08.000Z shop.door a=- b.c=- b.d.1=- b=- data.time=- 0=- b.d.7=- none=-
`},
	} {
		fields, err := parseFields(paths)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		p, err := newFieldsPrinter(&out, c.format, clock{utc: true}, c.byTS, fields)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.lacking(); got != nil {
			t.Errorf("before any update, %q are lacking", got)
		}
		for i := range updates {
			if err := p.print(&updates[i]); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != c.want {
			t.Errorf("--format %s prints\n%s\nwant\n%s", c.format, out.String(), c.want)
		}
		if got := strings.Join(p.lacking(), " "); got != "b.d.7 none" {
			t.Errorf("lacking are %q", got)
		}
	}
	if _, err := newFieldsPrinter(nil, "xml", clock{}, false, nil); err == nil {
		t.Error("xml is taken")
	}
}
