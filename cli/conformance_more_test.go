package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
)

// padded is frame with white space behind it, size bytes in all.
func padded(frame string, size int) string {
	return frame + strings.Repeat(" ", size-len(frame))
}

func brackets(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func packed(t *testing.T, v any) string {
	t.Helper()
	b, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What the recorded cases leave open, through the same sockets: each frame
// and what comes of it, as [ns, data, ts, documentation_url].
func TestInputEdges(t *testing.T) {
	const mebibyte = 1 << 20
	update := func(members string) string { return `{"type": "thing_update", ` + members + `}` }
	big := strings.Repeat("é", 50_000)
	full := packed(t, []any{"a", 1.5, strings.Repeat("x", 65_507-16), nil})
	if len(full) != 65_507 {
		t.Fatalf("the largest datagram has %d bytes", len(full))
	}
	// The deepest that is taken: halves of arrays and of objects.
	deep := strings.Repeat(`[{"a":`, 255) + "[]" + strings.Repeat("}]", 255)

	j := newJudge(t, serve(t, t.TempDir()))
	for _, c := range []struct {
		name, transport string
		frames, want    []string
	}{
		{"1 MiB", "zmq", []string{padded(`["a", 1.5, 1, null]`, mebibyte)}, []string{`["a", 1, 1.5, null]`}},
		{"1 MiB and a byte", "zmq", []string{padded(`["a", 1.5, 1, null]`, mebibyte+1)}, nil},
		{"far too large", "zmq", []string{padded(`["a", 1.5, 1, null]`, 20*mebibyte)}, nil},
		{"too large amid others", "zmq", []string{`["a", 1, 1, 1]`, padded("1", 2*mebibyte), "", "{", `["b", 1, 1, 1]`}, []string{`["a", 1, 1.0, 1]`, `["b", 1, 1.0, 1]`}},
		{"100 KB of documentation", "zmq", []string{`["a", -5, {}, "` + big + `"]`}, []string{`["a", {}, -5.0, "` + big + `"]`}},
		{"largest datagram", "udp", []string{full}, []string{`["a", "` + strings.Repeat("x", 65_491) + `", 1.5, null]`}},
		{"JSON by UDP", "udp", []string{`["a", 1.5, 1, null]`}, nil},
		{"empty datagram", "udp", []string{"", "\xc0", full[:100]}, nil},
		{"msgpack by ZeroMQ", "zmq", []string{packed(t, []any{"a", 1.5, 1, nil})}, nil},
		{"depth 512", "zmq", []string{update(`"ns": "a", "ts": 1, "data": ` + deep + `, "x": ` + brackets(511))}, []string{`["a", ` + deep + `, 1.0, null]`}},
		{"depth 513", "zmq", []string{update(`"ns": "a", "data": [` + deep + `]`), update(`"ns": "a", "data": 1, "x": ` + brackets(512))}, nil},
		{"the last of each counts", "zmq", []string{update(`"ns": "A", "ts": "x", "data": NaN, "type": 1, "documentation_url": 1, "\u006es": "\u0061", "t\u0073": -0.0, "dat\u0061": {"b": 1, "a": 2, "\u0062": 3}, "documentation_url": null, "type": "thing_update"`)}, []string{`["a", {"b": 3, "a": 2}, -0.0, null]`}},
		{"the last of each counts against it", "zmq", []string{update(`"ns": "a", "data": 1, "type": "x"`), update(`"ns": "a", "data": 1, "ns": null`), update(`"ns": "a", "data": 1, "ts": 1, "ts": true`)}, nil},
		{"names in another case", "zmq", []string{update(`"NS": "a", "data": 1`), update(`"ns": "a", "Data": 1`)}, nil},
		{"ns with NUL", "zmq", []string{update(`"ns": "a\u0000", "data": 1`), "[\"a\x00\", 1, 1, 1]"}, nil},
		{"ns of 1,024 and 1,025 bytes", "zmq", []string{`["` + strings.Repeat("a.", 511) + `aa", 1, 1, 1]`, `["` + strings.Repeat("a.", 512) + `a", 1, 1, 1]`}, []string{`["` + strings.Repeat("a.", 511) + `aa", 1, 1.0, 1]`}},
		{"ts at its bounds", "zmq", []string{`["a", 1e11, 1, 1]`, `["a", -100000000000, 1, 1]`, `["a", 100000000001, 1, 1]`, `["a", 1e400, 1, 1]`, `["a", 5e-324, 1, 1]`, `["a", 1E-5, 1, 1]`}, []string{`["a", 1, 1e11, 1]`, `["a", 1, -1e11, 1]`, `["a", 1, 5e-324, 1]`, `["a", 1, 1e-05, 1]`}},
		{"numbers of 1,000 and 1,001 characters", "zmq", []string{`["a", 1, -` + strings.Repeat("9", 999) + `, 1]`, `["a", 1, -` + strings.Repeat("9", 1000) + `, 1]`, `["a", 1, 1, 0.` + strings.Repeat("1", 999) + `]`, update(`"ns": "a", "data": ` + strings.Repeat("1", 1001) + `, "data": 1`)}, []string{`["a", -` + strings.Repeat("9", 999) + `, 1.0, 1]`}},
		{"white space and what looks like it", "zmq", []string{"\t\r\n [\"a\" ,1, [ 1 ,\t2 ] , null ] \n", "\f[\"a\",1,1,1]", "[\"a\",1,1,1]\v", "\ufeff[\"a\",1,1,1]", "[\"a\",1,\u00a01,1]", "[\"a\",1,1,1]\x00"}, []string{`["a", [1, 2], 1.0, null]`}},
		{"lines of text", "zmq", []string{"[\"a\", 1, \"\u2028\u2029\x7f\\/\\b\\f\\u0000\", 1]", "[\"a\", 1, \"\n\", 1]"}, []string{"[\"a\", \"\u2028\u2029\x7f/\\b\\f\\u0000\", 1.0, 1]"}},
		{"lone surrogates", "zmq", []string{`["a", 1, {"\ud800": "\udc00\ud83d\ude00"}, "\ud83d"]`}, []string{"[\"a\", {\"\ufffd\": \"\ufffd\U0001f600\"}, 1.0, \"\ufffd\"]"}},
		{"not UTF-8", "zmq", []string{"[\"a\", 1, \"\xc0\xaf\", 1]", "[\"a\", 1, \"\xed\xa0\x80\", 1]", "[\x00\"\x00a\x00\"\x00"}, nil},
		{"msgpack keys", "udp", []string{"\x94\xa1a\x05\x86\x01\x01\xa11\x02\xc4\x01k\x03\xc0\x04\xcb\x40\x00\x00\x00\x00\x00\x00\x00\x05\xc3\x06\xc0"}, []string{`["a", {"1": 2, "aw==": 3, "null": 4, "2.0": 5, "true": 6}, 5.0, null]`}},
		{"msgpack extremes", "udp", []string{"\x94\xa1a\xd6\xff\x00\x00\x00\x05\x95\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xd3\x80\x00\x00\x00\x00\x00\x00\x00\xcb\x80\x00\x00\x00\x00\x00\x00\x00\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00\xd7\xff\x77\x35\x94\x00\x00\x00\x00\x07\xc0"}, []string{`["a", [18446744073709551615, -9223372036854775808, -0.0, null, 7.5], 5.0, null]`}},
		{"msgpack refused", "udp", []string{"\x94\xa1a\x05\xd4\x05\x00\xc0", "\x94\xa1a\x05\x81\x90\x01\xc0", "\x94\xa1a\x05\xa1\xff\xc0", "\x94\xa1a\x05\xdd\xff\xff\xff\xff\xc0", "\x95\xa1a\x05\x01\xc0\xc0", "\x94\xc4\x01a\x05\x01\xc0"}, nil},
	} {
		frames := make([][]byte, len(c.frames))
		for i, f := range c.frames {
			frames[i] = []byte(f)
		}
		got := j.publishes(c.transport, frames...)
		if len(got) != len(c.want) {
			t.Errorf("%s: %d updates were published, not %d: %.300s", c.name, len(got), len(c.want), got)
			continue
		}
		for i, l := range got {
			list := fmt.Appendf(nil, `["%s", %s, %s, %s]`, l.NS, l.Data, l.TS, l.Doc)
			if g, w := canon(t, list), canon(t, []byte(c.want[i])); g != w {
				t.Errorf("%s: published %.300s, not %.300s", c.name, g, w)
			}
		}
	}
}

// A new Thing beyond --max-things is refused, a known one never. A snapshot
// of more than 1 MiB comes in parts; the root Thing has the key "".
func TestSnapshotInParts(t *testing.T) {
	b := serve(t, t.TempDir(), "--max-things", "5")
	j := newJudge(t, b)
	data := strings.Repeat("x", 600_000)
	for i, ns := range []string{"", "t1", "t2", "t3", "t4", "t1", ""} {
		if got := j.publishes("zmq", fmt.Appendf(nil, `["%s", 1, "%d%s", null]`, ns, i, data)); len(got) != map[bool]int{true: 1, false: 0}[ns != "t4"] {
			t.Fatalf("%q: %d updates were published", ns, len(got))
		}
	}
	s := subscribe(t, b.port, wire.SnapshotPrefix).snapshot(t, j.seq)
	for ns, number := range map[string]string{"": "6", "t1": "5", "t2": "2", "t3": "3"} {
		if want := `"` + number + data + `"`; string(s.Data[ns].Data) != want {
			t.Errorf("%q has the data %.20s", ns, s.Data[ns].Data)
		}
	}
	if s.Parts != 4 {
		t.Errorf("it came in %d parts", s.Parts)
	}
}

// Requests as a stranger may send them, by REQ and DEALER, and the code of
// the error or the count of the answer.
func TestRequestEdges(t *testing.T) {
	b := serve(t, t.TempDir(), "--ring", "2")
	j := newJudge(t, b)
	var epoch string
	for range 3 {
		j.publishes("zmq", []byte(`["a", 1, 1, "u"]`), []byte(`["a.b", 2, 2, null]`), []byte(`["", 3, 3, null]`), []byte(`bad`))
	}
	conn, err := zmtp.Dial(t.Context(), "127.0.0.1:"+itoa(b.port+client.HistoryOffset), zmtp.DialOptions{Role: zmtp.Dealer})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer (&subscriber{conn: conn}).inTime()()
	type head struct {
		Type, Code, Message, Epoch string
		Count                      int
		ID, Next                   json.RawMessage
		Evicted                    int
	}
	ask := func(frames ...string) (h head, body []byte) {
		t.Helper()
		var message []byte
		for i, f := range frames {
			message = zmtp.AppendFrame(message, []byte(f), i < len(frames)-1)
		}
		if err := conn.Write(message); err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		answer, err := zmtp.ReadMessage(conn)
		if err != nil {
			t.Fatalf("%.100q: %v", frames, err)
		}
		// The envelope comes back: all up to the first empty frame.
		for i, f := range frames {
			if f == "" {
				for k, e := range frames[:i+1] {
					if string(answer[k]) != e {
						t.Fatalf("%.100q: the envelope comes back as %.100q", frames, answer)
					}
				}
				answer = answer[i+1:]
				break
			}
		}
		readStrictly(t, answer[0], &h)
		if want := map[bool]int{true: 1, false: 2}[h.Type == "error"]; len(answer) != want {
			t.Fatalf("%.100q: %d frames come back", frames, len(answer))
		}
		if h.Type == "error" {
			return h, nil
		}
		lines := bytes.SplitAfter(answer[1], []byte("\n"))
		if len(lines)-1 != h.Count || len(lines[h.Count]) != 0 {
			t.Fatalf("%.100q: %d lines and a count of %d", frames, len(lines)-1, h.Count)
		}
		return h, answer[1]
	}
	h, body := ask("", `{"type": "replay"}`)
	if epoch = h.Epoch; h.Count != 8 || h.Evicted != 4 {
		t.Fatalf("everything is %+v", h)
	}
	for line := range bytes.Lines(body) {
		readLine(t, bytes.TrimSuffix(line, []byte("\n")))
	}
	first, _ := ask(`{"type": "replay", "page_bytes": 1}`)
	listed, _ := ask(`{"type": "directory", "page_bytes": 1}`)
	cursor, listCursor := string(first.Next), string(listed.Next)

	for request, want := range map[string]string{
		`{"type": "replay", "ns": "a"}`:                             "4",
		`{"type": "replay", "ns": "a", "tree": false}`:              "2",
		`{"type": "replay", "ns": "", "tree": false, "id": "x\""}`:  `2 "x\""`,
		`{"type": "replay", "ns": null, "limit": null, "id": -5}`:   "8 -5",
		`{"type": "replay", "last": 1, "limit": 2, "id": ""}`:       `2 ""`,
		`{"type": "replay", "limit": 18446744073709551615}`:         "8",
		`{"type": "replay", "after": 18446744073709551615}`:         "0",
		`{"type": "replay", "ns": "unknown"}`:                       "0",
		`{"type": "replay", "page_bytes": 99999999999999999999}`:    "bad_request",
		`{"type": "replay", "page_bytes": 18446744073709551615}`:    "8",
		`{"type": "replay", "since": -3600, "until": 1e11}`:         "8",
		`{"type": "replay", "until": -3600.5}`:                      "0",
		`{"type": "replay", "since": 1, "until": 2, "by": "ts"}`:    "2",
		`{"type": "replay", "epoch": "` + epoch + `"}`:              "8",
		`{"type": "replay", "epoch": "another"}`:                    "epoch_changed",
		`{"type": "replay", "cursor": ` + cursor + `, "x": 1}`:      "7",
		`{"type": "replay", "cursor": ` + cursor + `, "id": 1}`:     "7 1",
		`{"type": "replay", "cursor": ` + listCursor + `}`:          "bad_request",
		`{"type": "directory", "cursor": ` + cursor + `}`:           "bad_request",
		`{"type": "directory", "cursor": ` + listCursor + `}`:       "3",
		`{"type": "replay", "cursor": "x"}`:                         "bad_request",
		`{"type": "replay", "cursor": ` + cursor + `, "limit": -1}`: "7",
		`{"type": "replay", "cursor": null, "limit": -1}`:           "bad_request",
		`{"type": "replay", "id": 1.5}`:                             "bad_request",
		`{"type": "replay", "limit": 0, "id": 7}`:                   "bad_request 7",
		`{"type": "replay", "limit": 1.0}`:                          "bad_request",
		`{"type": "replay", "last": true}`:                          "bad_request",
		`{"type": "replay", "after": -1}`:                           "bad_request",
		`{"type": "replay", "since": "1h"}`:                         "bad_request",
		`{"type": "replay", "since": 1e400}`:                        "bad_request",
		`{"type": "replay", "since": NaN}`:                          "bad_request",
		`{"type": "replay", "tree": 1}`:                             "bad_request",
		`{"type": "replay", "by": "seq"}`:                           "bad_request",
		`{"type": "replay", "ns": "A"}`:                             "bad_request",
		`{"type": "replay", "at": 1}`:                               "bad_request",
		`{"type": "replay", "foo": null}`:                           "bad_request",
		`{"type": "directory", "wide": true}`:                       "4",
		`{"type": "directory", "ns": "a", "at": 1e11}`:              "2",
		`{"type": "directory", "at": 1}`:                            "4", // all unknown: each began with what is evicted
		`{"type": "directory", "since": 1}`:                         "bad_request",
		`{"type": "refused", "id": 1}`:                              "1 1",
		`{"type": "refused", "ns": ""}`:                             "bad_request",
		`{"type": "Replay", "id": 2}`:                               "bad_request 2",
		`{"type": "replay"} {}`:                                     "bad_request",
		`[]`:                                                        "bad_request",
		"\xff":                                                      "bad_request",
		" \n" + `{"ty\u0070e": "repla\u0079"} `:                     "8",
	} {
		for _, envelope := range [][]string{nil, {""}, {"a", ""}, {"a", "b", ""}} {
			h, _ := ask(append(envelope, request)...)
			got := fmt.Sprintf("%s%d", h.Code, h.Count)
			if h.Type == "error" {
				got = h.Code
			}
			if h.ID != nil {
				got += " " + string(h.ID)
			}
			if h.Type != "refused_page" && h.Epoch != epoch || h.Type == "error" && h.Message == "" {
				t.Errorf("%s: %+v", request, h)
			}
			if got != want {
				t.Errorf("%s is answered with %s (%s), not %s", request, got, h.Message, want)
			}
		}
	}
	for request, want := range map[string]string{
		`{"type": "replay", "x": "` + strings.Repeat("x", 70_000) + `"}`: "bad_request",
		`{"type": "replay", "x": ` + strings.Repeat("[", 100_000):        "bad_request",
		padded(`{"type": "replay"}`, 1<<20):                              "",
		padded(`{"type": "replay"}`, 2<<20):                              "too_large",
	} {
		if h, _ := ask("", request); h.Code != want {
			t.Errorf("%.40s of %d bytes is answered with %+v", request, len(request), h)
		}
	}
	for _, frames := range [][]string{{""}, {"a", "", "b"}, {"", "", `{"type": "replay"}`}, {"", `{"type": "replay"}`, ""}, {"a", "b"}} {
		if h, _ := ask(frames...); h.Code != "bad_request" {
			t.Errorf("%q is answered with %+v", frames, h)
		}
	}
}

// Prefixes match bytes, wherever they end; one that is subscribed to twice
// goes with the second cancel.
func TestSubscriptionEdges(t *testing.T) {
	b := serve(t, t.TempDir(), "--snapshot-interval", "1h") // none but those asked for
	j := newJudge(t, b)
	const name = `{"type": "thing_update", "ns": "`
	names := []string{"", "sh", "shop", "shop.a", "shopx", "other"}
	type test struct {
		subscribe, cancel []string
		want              []string
		feed              *subscriber
	}
	tests := []*test{
		{subscribe: []string{""}, want: names},
		{subscribe: []string{`{"type`}, want: names},
		{subscribe: []string{`{"type": "thing_`}, want: names},
		{subscribe: []string{wire.UpdatePrefix}, want: names},
		{subscribe: []string{name}, want: names},
		{subscribe: []string{name + `"`}, want: []string{""}},
		{subscribe: []string{name + "sh"}, want: []string{"sh", "shop", "shop.a", "shopx"}},
		{subscribe: []string{name + `shop"`, name + "shop."}, want: []string{"shop", "shop.a"}},
		{subscribe: []string{name + `shop", "data": 1`, name + `sh", "data": 2`}, want: []string{"shop"}},
		{subscribe: []string{name + `sh", "data": 1, "ts": 5.0, "documentation_url": null, "seq": `}, want: []string{"sh"}},
		{subscribe: []string{wire.SnapshotPrefix}},
		{subscribe: []string{wire.HeartbeatPrefix}},
		{subscribe: []string{`{"type":"thing_update"`, "x", "\x00", name + "Shop", name + `shop" `}},
		{subscribe: []string{name + "sh", name + "sh"}, cancel: []string{name + "sh", "", name}, want: []string{"sh", "shop", "shop.a", "shopx"}},
		{subscribe: []string{name + "sh", name + "sh", "", name + "other"}, cancel: []string{name + "sh", "", name + "sh"}, want: []string{"other"}},
	}
	const probe = `{"type": "thing_snap`
	for _, c := range tests {
		own := append(c.subscribe, name+sentinelNS)
		c.feed = subscribe(t, b.port, own[0])
		for _, prefix := range own[1:] {
			if err := c.feed.conn.Subscribe([]byte(prefix)); err != nil {
				t.Fatal(err)
			}
		}
		if slices.ContainsFunc(own, func(prefix string) bool {
			return strings.HasPrefix(wire.SnapshotPrefix, prefix)
		}) {
			c.feed.snapshot(t, 0)
		}
		for _, prefix := range c.cancel {
			if err := c.feed.conn.Cancel([]byte(prefix)); err != nil {
				t.Fatal(err)
			}
		}
		// With a subscription that was cancelled, the next one brings a
		// snapshot again: the broker has heard of all before it.
		err := c.feed.conn.Subscribe([]byte(probe))
		if err == nil {
			err = c.feed.conn.Cancel([]byte(probe))
		}
		if err == nil {
			err = c.feed.conn.Subscribe([]byte(probe))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range tests {
		c.feed.snapshot(t, 0)
	}
	var frames [][]byte
	for _, ns := range names {
		frames = append(frames, fmt.Appendf(nil, `["%s", 5, 1, null]`, ns))
	}
	j.publishes("zmq", frames...)
	for _, c := range tests {
		stop := c.feed.inTime()
		var got []string
		for {
			line := c.feed.raw(t)
			if !bytes.HasPrefix(line, []byte(wire.UpdatePrefix)) {
				continue
			}
			l := readLine(t, line)
			if l.NS == sentinelNS {
				break
			}
			got = append(got, l.NS)
		}
		stop()
		if !slices.Equal(got, c.want) {
			t.Errorf("%q less %q brings %q, not %q", c.subscribe, c.cancel, got, c.want)
		}
	}
}
