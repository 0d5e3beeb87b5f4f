package wire

import (
	"errors"
	"strings"
	"testing"

	"tbhist/thing"
)

func TestParseMessageUpdate(t *testing.T) {
	for line, want := range map[string]thing.Update{
		string(AppendUpdate(nil, referenceUpdate())):                                                         *referenceUpdate(),
		`{"type": "thing_update", "ns": "a", "data": [1, NaN], "ts": 5, "documentation_url": null}`:          {Name: "a", Data: []byte("[1,null]"), TS: 5},
		`{"data": {"a":1,"a":2}, "ns": "", "ts": 5.0, "documentation_url": "", "type": "thing_\u0075pdate"}`: {Data: []byte(`{"a":2}`), TS: 5, Doc: []byte(`""`)},
		`{"type": "thing_update", "ns": "a", "data": null, "ts": 1e3, "seq": null, "thing_seq": null, "received": 7.25, "x": 1}`: {
			Name: "a", Data: []byte("null"), TS: 1000, Received: 7_250_000,
		},
	} {
		m, err := ParseMessage([]byte(line))
		if err != nil || m.Kind != KindUpdate {
			t.Errorf("%s: %v %v", line, m.Kind, err)
			continue
		}
		got := m.Update
		if string(got.Data) != string(want.Data) || string(got.Doc) != string(want.Doc) || (got.Doc == nil) != (want.Doc == nil) {
			t.Errorf("%s: %s %s", line, got.Data, got.Doc)
		}
		got.Data, got.Doc, want.Data, want.Doc = nil, nil, nil, nil
		if got.Name != want.Name || got.TS != want.TS || got.Received != want.Received || got.Seq != want.Seq || got.ThingSeq != want.ThingSeq {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestParseMessageOther(t *testing.T) {
	for _, line := range []string{"5", `["a", 1, 2, null]`, `{"type": "zzz"}`, `{"ns": "a", "data": 1}`, "{}", `"x"`} {
		if m, err := ParseMessage([]byte(line)); err != nil || m.Kind != KindUnknown {
			t.Errorf("%s: %v, %v", line, m.Kind, err)
		}
	}
	for _, line := range []string{
		"", "{oops", "\xff", `{"type": "thing_update"`, `{"type": "thing_update"} x`, `{"type": "thing_update", "ns": "A", "data": 1, "ts": 1.5}`,
		`{"type": "thing_update", "ns": "a", "ts": 1.5}`, `{"type": "thing_update", "ns": "a", "data": 1}`, `{"type": "thing_update", "ns": "a", "data": 1, "ts": "5"}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": NaN}`, `{"type": "thing_update", "ns": "a", "data": 1, "ts": true}`,
		`{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.5, "seq": -1}`, `{"type": "thing_update", "ns": "a", "data": 1, "ts": 1.5, "seq": "7"}`,
	} {
		if m, err := ParseMessage([]byte(line)); err == nil {
			t.Errorf("%s was taken: %+v", line, m)
		}
	}
}

// What a message was parsed from may be written over.
func TestParseMessageKeepsNothing(t *testing.T) {
	line := AppendUpdate(nil, referenceUpdate())
	m, err := ParseMessage(line)
	if err != nil {
		t.Fatal(err)
	}
	clear(line)
	if string(AppendUpdate(nil, &m.Update)) != string(AppendUpdate(nil, referenceUpdate())) {
		t.Errorf("now %+v", m.Update)
	}
}

func TestParseSnapshot(t *testing.T) {
	m, err := ParseMessage([]byte(`{"type": "thing_snapshot", "ts": 5.0, "data": {
		"a": {"ns": "a", "data": {"x": [1, NaN]}, "ts": 1, "documentation_url": "d", "seq": 7, "thing_seq": 2, "received": 3.5},
		"A": {"ns": "A", "data": 1, "ts": 1.5}, "b": 5, "c": {"ns": "c", "ts": 1.5}, "d": {"ns": "d", "data": 1, "ts": "x"}, "e": {"ns": "e", "data": 1, "ts": null},
		"": {"data": null, "ts": 1.5, "ns": "", "documentation_url": null},
		"f": {"data": 1, "ts": 1.5}
		}, "seq": 9, "epoch": "ee", "part": 2, "parts": 3}`))
	if err != nil || m.Kind != KindSnapshot {
		t.Fatal(m.Kind, err)
	}
	s := m.Snapshot
	if s.TS != 5e6 || s.Seq != 9 || s.Epoch != "ee" || s.Part != 2 || s.Parts != 3 || m.Skipped != 5 || len(s.Entries) != 3 {
		t.Fatalf("got %+v, %d skipped", s, m.Skipped)
	}
	a := s.Entries[0]
	if a.Update.Name != "a" || string(a.Update.Data) != `{"x":[1,null]}` || string(a.Doc) != `"d"` || a.Update.Seq != 7 || a.Update.ThingSeq != 2 || a.Update.Received != 3_500_000 || a.Wide != nil {
		t.Errorf("got %+v", a)
	}
	if s.Entries[1].Update.Name != "" || s.Entries[1].Doc != nil || s.Entries[2].Update.Name != "f" {
		t.Errorf("got %+v", s.Entries[1:])
	}
	for line, skipped := range map[string]int{`{"type": "thing_snapshot", "ts": 1.5}`: 1, `{"type": "thing_snapshot", "data": [1]}`: 1, `{"type": "thing_snapshot", "ts": 1.5, "data": {}}`: 0} {
		m, err := ParseMessage([]byte(line))
		if err != nil || m.Kind != KindSnapshot || m.Skipped != skipped || len(m.Snapshot.Entries) != 0 || m.Snapshot.Part != 1 || m.Snapshot.Parts != 1 {
			t.Errorf("%s: %+v, %v", line, m, err)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestRequestRoundTrip(t *testing.T) {
	for _, r := range []*Request{
		{Type: TypeReplay},
		{Type: TypeRefused, ID: []byte(`"x\n"`)},
		{
			Type: TypeReplay, ID: []byte("-5"), NS: ptr(thing.Name("a.b")), Tree: ptr(false), Since: ptr(thing.Micros(-3600e6)), Until: ptr(thing.Micros(1423351104_945123)),
			By: ByTS, After: ptr(uint64(0)), Last: ptr(uint64(1)), Limit: ptr(uint64(18446744073709551615)), PageBytes: ptr(1), Epoch: "ee",
		},
		{Type: TypeReplay, Cursor: `a"b`, PageBytes: ptr(1 << 20)},
		{Type: TypeDirectory, NS: ptr(thing.Name("")), Tree: ptr(true), At: ptr(thing.Micros(0)), Wide: ptr(true), Epoch: "ee"},
	} {
		frame := r.Append(nil)
		checkLine(t, frame)
		back, err := ParseRequest(frame)
		if err != nil {
			t.Errorf("%s: %v", frame, err)
			continue
		}
		if again := back.Append(nil); string(again) != string(frame) {
			t.Errorf("%s became %s", frame, again)
		}
	}
}

func TestParseRequest(t *testing.T) {
	r, err := ParseRequest([]byte(` {"type": "replay", "ns": null, "tree": null, "since": null, "last": null, "cursor": null, "id": null, "epoch": null} `))
	if err != nil || r.Name() != "" || !r.WithTree() || r.PageSize() != PageBytesDefault || r.ID != nil || r.Cursor != "" {
		t.Errorf("%+v, %v", r, err)
	}
	// Beside a cursor the rest is ignored.
	r, err = ParseRequest([]byte(`{"type": "directory", "ns": "A", "last": -1, "x": 1, "cursor": "c", "id": 7, "page_bytes": 99999999999}`))
	if err != nil || r.NS != nil || r.Cursor != "c" || string(r.ID) != "7" || r.PageSize() != PageBytesMax {
		t.Errorf("%+v, %v", r, err)
	}
	for frame, says := range map[string]string{
		"":                                    "one JSON object",
		"5":                                   "one JSON object",
		"[]":                                  "one JSON object",
		"{":                                   "one JSON object",
		"{}":                                  `"type" is one of`,
		"{} x":                                "follows",
		`{"type": "replay", "type": "x"}`:     "each member once",
		`{"type": null}`:                      `"type" is one of`,
		`{"type": "x", "y": 1}`:               `"type" is one of`,
		`{"type": 5}`:                         `"type" is one of`,
		`{"type": "replay", "x": 1}`:          `"x" is no member`,
		`{"type": "replay", "at": 1}`:         `"at" is no member`,
		`{"type": "replay", "wide": null}`:    `"wide" is no member`,
		`{"type": "directory", "last": 1}`:    `"last" is no member`,
		`{"type": "refused", "ns": "a"}`:      `"ns" is no member`,
		`{"type": "refused", "cursor": "a"}`:  "one page",
		`{"type": "replay", "ns": 5}`:         `"ns" is a namespace`,
		`{"type": "replay", "ns": "A"}`:       `"ns" is a namespace`,
		`{"type": "replay", "tree": 1}`:       `"tree" is true or false`,
		`{"type": "replay", "since": "1h"}`:   `"since" is a number`,
		`{"type": "replay", "until": 1e12}`:   `"until" is a number`,
		`{"type": "replay", "since": NaN}`:    "JSON",
		`{"type": "replay", "by": "x"}`:       `"by" is "received" or "ts"`,
		`{"type": "replay", "after": -1}`:     `"after" is a whole number`,
		`{"type": "replay", "after": 1.0}`:    `"after" is a whole number`,
		`{"type": "replay", "last": 0}`:       `"last" is a whole number of at least 1`,
		`{"type": "replay", "limit": 0}`:      `"limit" is a whole number of at least 1`,
		`{"type": "replay", "limit": true}`:   `"limit" is a whole number`,
		`{"type": "replay", "page_bytes": 0}`: `"page_bytes" is a whole number`,
		`{"type": "replay", "epoch": 5}`:      `"epoch" is a string`,
		`{"type": "replay", "cursor": ""}`:    `"cursor" is a string`,
		`{"type": "replay", "id": 1.5}`:       `"id" is`,
		`{"type": "replay", "id": []}`:        `"id" is`,
		`{"type": "replay", "id": "` + strings.Repeat("x", 1100) + `"}`: `"id" is`,
	} {
		r, err := ParseRequest([]byte(frame))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s: %v, want %s", frame, err, says)
		}
		if r == nil {
			t.Errorf("%.60s: no request", frame)
		}
	}
	// An error can be answered with the id, wherever that stands.
	if r, err := ParseRequest([]byte(`{"x": 1, "type": "replay", "last": 0, "id": "me"}`)); err == nil || string(r.ID) != `"me"` {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAbsolute(t *testing.T) {
	for in, want := range map[thing.Micros]thing.Micros{-3600e6: 1e15 - 3600e6, 0: 1e15, 1: 1} {
		if got := Absolute(in, 1e15); got != want {
			t.Errorf("%d is %d", in, got)
		}
	}
}

func TestPageRoundTrip(t *testing.T) {
	for want, h := range map[string]PageHead{
		`{"type": "replay_page", "epoch": "ee", "count": 2, "first_seq": 5, "last_seq": 9, "head": 10, "next": "c", "evicted": 3, "evicted_exact": true}`: {
			Type: TypeReplayPage, Epoch: "ee", Count: 2, First: 5, Last: 9, Head: 10, Next: "c", Evicted: 3, EvictedExact: true,
		},
		`{"type": "replay_page", "epoch": "ee", "count": 0, "first_seq": null, "last_seq": null, "head": 0, "next": null, "limited": true, "evicted": 0, "evicted_exact": false, "id": "q"}`: {
			Type: TypeReplayPage, Epoch: "ee", Limited: true, ID: []byte(`"q"`),
		},
		`{"type": "directory_page", "epoch": "ee", "count": 1, "head": 10, "next": null, "id": 7}`: {Type: TypeDirectoryPage, Epoch: "ee", Count: 1, Head: 10, ID: []byte("7")},
		`{"type": "refused_page", "count": 4}`:                                                     {Type: TypeRefusedPage, Count: 4},
	} {
		frame := h.Append(nil)
		if string(frame) != want {
			t.Errorf("got\n%s, want\n%s", frame, want)
		}
		back, err := ParseHead(frame)
		if err != nil || string(back.Append(nil)) != want {
			t.Errorf("%s read back as %+v, %v", frame, back, err)
		}
	}
	e := &ErrorFrame{Code: CodeBadRequest, Message: "\"x\" is no\nmember", Epoch: "ee", ID: []byte("1")}
	frame := e.Append(nil)
	if want := `{"type": "error", "code": "bad_request", "message": "\"x\" is no\nmember", "epoch": "ee", "id": 1}`; string(frame) != want {
		t.Errorf("got %s", frame)
	}
	_, err := ParseHead(frame)
	var back *ErrorFrame
	if !errors.As(err, &back) || string(back.Append(nil)) != string(frame) {
		t.Errorf("read back as %v", err)
	}
	for _, bad := range []string{"", "[]", `{"type": "x"}`, `{"type": "replay_page", "count": -1}`} {
		if h, err := ParseHead([]byte(bad)); err == nil {
			t.Errorf("%s was taken: %+v", bad, h)
		}
	}
	r := Refused{Time: 5e6, Source: "::1", Transport: "udp", Reason: "ns", Taken: `"" or`, Sample: `\xff`, Suppressed: 7}
	line := r.Append(nil)
	if back, err := ParseRefused(line); err != nil || back != r {
		t.Errorf("%s read back as %+v, %v", line, back, err)
	}
}
