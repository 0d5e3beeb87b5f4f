package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

func sample() client.Update {
	return client.Update{
		Name: "spacemon.electronics", Data: []byte(`{"luminance":106.09,"text":"a, \"b\""}`), Doc: []byte(`"http://x/?a=1,2"`),
		TS: 5, Received: 1795355522123999, Seq: 7, ThingSeq: 3,
	}
}

func printed(t *testing.T, format string, c clock, byTS bool, updates ...client.Update) string {
	t.Helper()
	var out bytes.Buffer
	p, err := newUpdatePrinter(&out, format, c, byTS)
	if err != nil {
		t.Fatal(err)
	}
	for i := range updates {
		if err := p.print(&updates[i]); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// Times are those of clock, whichever were printed before.
func TestTextTimes(t *testing.T) {
	setLocal(t, zone(t, "Europe/Berlin"))
	for _, c := range []clock{{}, {utc: true}} {
		p := &textPrinter{clock: c}
		for _, m := range []thing.Micros{
			1795355522123999, 1795355522000000, 1795355522999999, 1795355523000000, 1795355522123999, 0, 999, 1000, -1, -1000000, -1000001,
			1792889999999999, 1792890000000000, // the clocks change
			1e17, 1e17 + 5000, -1e17, -1e17 - 5000,
		} {
			if got, want := string(p.appendTime(nil, m)), c.format(m); got != want {
				t.Errorf("%d: got %s, want %s", int64(m), got, want)
			}
		}
	}
}

func TestPrinters(t *testing.T) {
	setLocal(t, zone(t, "Europe/Berlin"))
	u := sample()
	root := client.Update{Data: []byte("\"\x7f\u009b\u202e é\""), Received: 1795355522123999, TS: 1423351104.5}
	for _, c := range []struct {
		format string
		clock  clock
		byTS   bool
		want   string
	}{
		{"text", clock{}, false, "2026-11-22T14:52:02.123+01:00 spacemon.electronics {\"luminance\":106.09,\"text\":\"a, \\\"b\\\"\"}\n" +
			"2026-11-22T14:52:02.123+01:00 \"\" \"\\u007f\\u009b\\u202e é\" (not kept)\n"},
		{"text", clock{utc: true}, true, "1970-01-01T00:00:05.000Z spacemon.electronics {\"luminance\":106.09,\"text\":\"a, \\\"b\\\"\"}\n" +
			"2015-02-07T23:18:24.500Z \"\" \"\\u007f\\u009b\\u202e é\" (not kept)\n"},
		{"csv", clock{}, false, "seq,thing_seq,received,ts,ns,data,documentation_url\r\n" +
			"7,3,1795355522.123999,5.0,spacemon.electronics,\"{\"\"luminance\"\":106.09,\"\"text\"\":\"\"a, \\\"\"b\\\"\"\"\"}\",\"http://x/?a=1,2\"\r\n" +
			",,1795355522.123999,1423351104.5,,\"\"\"\x7f\u009b\u202e é\"\"\",\r\n"},
	} {
		if got := printed(t, c.format, c.clock, c.byTS, u, root); got != c.want {
			t.Errorf("%s:\n%q\nwant\n%q", c.format, got, c.want)
		}
	}
	want := `{"type": "thing_update", "ns": "spacemon.electronics", "data": {"luminance":106.09,"text":"a, \"b\""}, "ts": 5.0, "documentation_url": "http://x/?a=1,2", "seq": 7, "thing_seq": 3, "received": 1795355522.123999}` + "\n"
	if got := printed(t, "json", clock{}, false, u); got != want {
		t.Errorf("json:\n%s\nwant\n%s", got, want)
	}
	for format, want := range map[string]string{
		"text": "2026-11-22T14:52:02.123+01:00 a 1 (snapshot)\n",
		"json": `{"data": 1, "ts": 5.0, "ns": "a", "documentation_url": null, "seq": 2, "thing_seq": 1, "received": 1795355522.123999}` + "\n",
		"csv":  "seq,thing_seq,received,ts,ns,data,documentation_url\r\n2,1,1795355522.123999,5.0,a,1,\r\n",
	} {
		var out bytes.Buffer
		p, err := newUpdatePrinter(&out, format, clock{}, false)
		if err == nil {
			err = p.printEntry(&client.Update{Name: "a", Data: []byte("1"), TS: 5, Seq: 2, ThingSeq: 1, Received: 1795355522123999})
		}
		if err != nil || out.String() != want {
			t.Errorf("an entry as %s: %q, %v", format, out.String(), err)
		}
	}
	if _, err := newUpdatePrinter(io.Discard, "xml", clock{}, false); err == nil {
		t.Error("xml is taken")
	}
}

// What is written as CSV is read back as it was.
func TestCSVReads(t *testing.T) {
	u := sample()
	u.Data = []byte(`"line\nbreak; \"quotes\", \\. and é"`)
	rows, err := csv.NewReader(strings.NewReader(printed(t, "csv", clock{}, false, u))).ReadAll()
	if err != nil || len(rows) != 2 || rows[1][5] != string(u.Data) || rows[1][6] != "http://x/?a=1,2" {
		t.Errorf("%q, %v", rows, err)
	}
}

// Escaping for terminals keeps the value.
func FuzzAppendVisible(f *testing.F) {
	f.Add("\x7f\u009b\u202e\ufeffé")
	f.Fuzz(func(t *testing.T, s string) {
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		visible := appendVisible(nil, data)
		var before, after string
		if err := errors.Join(json.Unmarshal(data, &before), json.Unmarshal(visible, &after)); err != nil || before != after {
			t.Errorf("%q became %q, %v", before, after, err)
		}
		for _, r := range string(visible) {
			if obeyed(r) {
				t.Errorf("%q has %U", visible, r)
			}
		}
	})
}

func TestTable(t *testing.T) {
	table := &table{head: []string{"THING", "AGE", "DATA"}, right: []bool{false, true}}
	table.add("a", "1.0s", "1")
	table.add("é.bcdef", "10s", "")
	var out strings.Builder
	if err := table.write(&out); err != nil {
		t.Fatal(err)
	}
	want := "THING     AGE  DATA\na        1.0s  1\né.bcdef   10s\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	for s, want := range map[string]string{"": "", "abcde": "abcde", "abcdef": "abcd…", "éééééé": "éééé…"} {
		if got := clip(s, 5); got != want {
			t.Errorf("clip(%q) = %q", s, got)
		}
	}
}

func TestWideRow(t *testing.T) {
	now := time.Unix(1000, 0)
	e := client.Entry{
		Update: client.Update{Name: "a", Data: []byte("1"), TS: 100, Received: thing.MicrosOf(now.Add(-time.Minute))},
		Doc:    []byte(`"http://x"`),
		Wide:   &client.Wide{Source: "::1", Transport: "udp", Sources: 3, Kept: 12345},
	}
	want := "a|1m00s|! 14m00s|::1 udp|! 3|12,345|http://x|1"
	if got := strings.Join(wideRow(now, &e), "|"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e.Wide = &client.Wide{Sources: 1}
	e.Update.TS = 900
	if got := strings.Join(wideRow(now, &e), "|"); got != "a|1m00s|40s|-|1|0|http://x|1" {
		t.Errorf("got %s", got)
	}
	e.Doc = []byte(`"http://x/\u001b[31m\n\u009b"`) // for the terminal
	if got := wideRow(now, &e)[6]; got != `http://x/\u001b[31m\u000a\u009b` {
		t.Errorf("got %s", got)
	}
	for _, ts := range []float64{-1e11, 1e11} { // as far as a source may go
		e.Update.TS = ts
		if got := wideRow(now, &e); !strings.HasPrefix(got[2], "! ") {
			t.Errorf("skew of %g is %s", ts, got[2])
		}
	}
	e = client.Entry{Update: client.Update{Name: "a"}, Unknown: true}
	if got := strings.Join(wideRow(now, &e), "|"); got != "a|?|?|-|-|-|-|no longer in history" {
		t.Errorf("got %s", got)
	}
}
