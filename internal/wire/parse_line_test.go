package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"tbhist/thing"
)

// lines are what AppendUpdate makes of updates of many kinds.
func lines() [][]byte {
	u := referenceUpdate()
	all := [][]byte{AppendUpdate(nil, u)}
	add := func(change func(u *thing.Update)) {
		v := *u
		change(&v)
		all = append(all, AppendUpdate(nil, &v))
	}
	for _, data := range []string{
		`null`, `true`, `false`, `0`, `-0`, `-1.5e-9`, `1E+22`, `12345678901234567890`, `""`, `"x"`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\ud7ff"`, `"é€😀"`,
		`{}`, `[]`, `[[],{},[{"a":[1,"b",null]}]]`, `{"a":{"b":{"a":1}},"b":2}`, `" , : } {"`, `{" a":"b "}`,
		`{"seq":1,"ts":null,"data":{}}`, `", \"ts\": 5"`, `"` + strings.Repeat("long ", 1000) + `"`,
	} {
		add(func(u *thing.Update) { u.Data = []byte(data) })
		if data != "null" {
			add(func(u *thing.Update) { u.Doc = []byte(data) })
		}
	}
	add(func(u *thing.Update) { u.Doc = nil })
	add(func(u *thing.Update) { u.Name = "" })
	add(func(u *thing.Update) { u.Name = thing.Name(strings.Repeat("a0_-.", 200) + "b") })
	add(func(u *thing.Update) { u.Seq, u.ThingSeq = 0, 0 })
	add(func(u *thing.Update) { u.Seq, u.ThingSeq = 1, 1e18 })
	for _, ts := range []float64{0, 5, -5, 0.1, 1e-7, -1e11, 1e11, 1795e6 + 1./3} {
		add(func(u *thing.Update) { u.TS = ts })
	}
	for _, received := range []thing.Micros{0, 1, -1, 5e6, -1e17, 1e17} {
		add(func(u *thing.Update) { u.Received = received })
	}
	return all
}

// checkFast holds the fast readers against parseMessage.
func checkFast(t *testing.T, line []byte) {
	t.Helper()
	want, wantErr := parseMessage(line)
	got, err := ParseMessage(line)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, want) {
		t.Errorf("ParseMessage of %.300q:\ngot  %+v, %v\nwant %+v, %v", line, got, err, want, wantErr)
	}
	taken := wantErr == nil && want.Kind == KindUpdate
	u, err := ParseUpdate(line)
	if (err == nil) != taken || taken && !reflect.DeepEqual(u, want.Update) {
		t.Errorf("ParseUpdate of %.300q: %+v, %v", line, u, err)
	}
	made, err := UpdateLine(line)
	if (err == nil) != taken || taken && !bytes.Equal(made, AppendUpdate(nil, &want.Update)) {
		t.Errorf("UpdateLine of %.300q: %.300q, %v", line, made, err)
	}
}

func TestOwnLinesAreReadFast(t *testing.T) {
	r := new(lineReader)
	for _, line := range lines() {
		var u thing.Update
		if !r.update(line, &u) || !r.exact(line) {
			t.Errorf("not read fast: %.300s", line)
		}
		if again := AppendUpdate(nil, &u); !bytes.Equal(again, line) {
			t.Errorf("%.300s became\n%.300s", line, again)
		}
		if made, err := UpdateLine(line); err != nil || &made[0] != &line[0] {
			t.Errorf("the line is not handed on as it is: %.300s, %v", line, err)
		}
		checkFast(t, line)
	}
}

// What is kept of a line outlives it, and appending to it harms nothing.
func TestReadLineIsACopy(t *testing.T) {
	line := AppendUpdate(nil, referenceUpdate())
	u, err := ParseUpdate(line)
	if err != nil {
		t.Fatal(err)
	}
	clear(line)
	_ = append(u.Data, "!!"...)
	if want := *referenceUpdate(); !reflect.DeepEqual(u, want) {
		t.Errorf("got %+v, want %+v", u, want)
	}
}

// Lines with a flaw in any place are read as they always were.
func TestFlawedLinesAreReadAsBefore(t *testing.T) {
	pieces := []string{
		" ", "\n", `"`, `\`, ",", ":", "{", "}", "[", "]", "0", "9", "-", ".", "e", "null", "\x00", "\x7f", "\x80", "é",
		`\ud800`, `"a":1,`, `"ns": "b", `, `, "seq": 7`, "1e999", "NaN", "A", "..",
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, line := range lines() {
		rounds := 60
		if len(line) > 1000 {
			rounds = 10
		}
		for range rounds {
			at := rnd.IntN(len(line) + 1)
			to := min(len(line), at+rnd.IntN(4)/2*rnd.IntN(12))
			piece := ""
			if rnd.IntN(4) > 0 || at == to {
				piece = pieces[rnd.IntN(len(pieces))]
			}
			checkFast(t, []byte(string(line[:at])+piece+string(line[to:])))
		}
	}
	for _, line := range []string{
		``, `{}`, `7`, `{"type": "thing_update"}`,
		`{"type": "thing_update", "ns": "a", "data": {"x":1,"x":2}, "ts": 1.0, "documentation_url": null, "seq": 1, "thing_seq": 1, "received": 1.0}`,
		`{"type": "thing_update", "ns": "a", "data": { "x":1}, "ts": 1.0, "documentation_url": null, "seq": 1, "thing_seq": 1, "received": 1.0}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1, "documentation_url": null, "seq": 1, "thing_seq": 1, "received": 1}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 0, "thing_seq": 0, "received": 1.0}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 01, "thing_seq": 1, "received": 1.0}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 18446744073709551615, "thing_seq": 1, "received": 1.0}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 9999999999999999999, "thing_seq": 1, "received": 1.0}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 1, "thing_seq": null, "received": 1.0}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1e999, "documentation_url": null, "seq": 1, "thing_seq": 1, "received": 1.0}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 1, "thing_seq": 1, "received": null}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 1, "thing_seq": 1, "received": 1.0} `,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.0, "documentation_url": null, "seq": 1, "thing_seq": 1, "received": 1.0}x`,
	} {
		checkFast(t, []byte(line))
	}
}

func FuzzParseLine(f *testing.F) {
	for _, line := range lines() {
		if len(line) < 512 {
			f.Add(line)
		}
	}
	f.Fuzz(checkFast)
}

func TestReadingLinesAllocatesLittle(t *testing.T) {
	line := AppendUpdate(nil, referenceUpdate())
	r := new(lineReader)
	var u thing.Update
	if n := testing.AllocsPerRun(100, func() { r.exact(line) }); n != 0 {
		t.Errorf("%v allocations for a line that is handed on", n)
	}
	if n := testing.AllocsPerRun(100, func() { r.update(line, &u) }); n != 1 {
		t.Errorf("%v allocations for a line that is read, want that of data and URL", n)
	}
}

func BenchmarkUpdateLine(b *testing.B) {
	line := AppendUpdate(nil, referenceUpdate())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := UpdateLine(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseUpdate(b *testing.B) {
	line := AppendUpdate(nil, referenceUpdate())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseUpdate(line); err != nil {
			b.Fatal(err)
		}
	}
}
