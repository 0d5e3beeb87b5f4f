package wire

import (
	"testing"

	"tbhist/thing"
)

func TestAppendUpdate(t *testing.T) {
	u := &thing.Update{Name: "shop.door", Data: []byte(`{"a":[1,2]}`), TS: 5, Received: 1423351104_946001, Seq: 12, ThingSeq: 3}
	want := `{"type": "thing_update", "ns": "shop.door", "data": {"a":[1,2]}, "ts": 5.0, "documentation_url": null, "seq": 12, "thing_seq": 3, "received": 1423351104.946001}`
	if got := string(AppendUpdate([]byte("x"), u)); got != "x"+want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	u.Name, u.Doc, u.Seq, u.ThingSeq, u.Received = "", []byte(`"http://d/"`), 0, 0, 5e6
	want = `{"type": "thing_update", "ns": "", "data": {"a":[1,2]}, "ts": 5.0, "documentation_url": "http://d/", "seq": null, "thing_seq": null, "received": 5.0}`
	if got := string(AppendUpdate(nil, u)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

func TestAppendHeartbeat(t *testing.T) {
	h := Heartbeat{Epoch: "0a1b", Seq: 7, TS: 5e6}
	if got, want := string(AppendHeartbeat(nil, h)), `{"type": "thing_heartbeat", "epoch": "0a1b", "seq": 7, "ts": 5.0}`; got != want {
		t.Errorf("got %s", got)
	}
	h.Degraded, h.SkippedFrom, h.SkippedTo, h.Skipped = true, 2, 6, 3
	line := AppendHeartbeat(nil, h)
	want := `{"type": "thing_heartbeat", "epoch": "0a1b", "seq": 7, "ts": 5.0, "degraded": true, "skipped_from": 2, "skipped_to": 6, "skipped": 3}`
	if string(line) != want {
		t.Errorf("got %s", line)
	}
	if m, err := ParseMessage(line); err != nil || m.Kind != KindHeartbeat || m.Heartbeat != h {
		t.Errorf("read back as %+v, %v", m, err)
	}
}

func TestAppendSnapshot(t *testing.T) {
	e := Entry{Update: thing.Update{Name: "a.b", Data: []byte("1"), TS: 1.5, Received: 2e6, Seq: 9, ThingSeq: 4}, Doc: []byte(`"d"`)}
	dst := AppendSnapshotHead(nil, 5e6)
	dst = AppendSnapshotEntry(dst, &e)
	one := AppendSnapshotTail(append([]byte(nil), dst...), 9, "ee", 1, 1)
	want := `{"type": "thing_snapshot", "ts": 5.0, "data": {"a.b": {"data": 1, "ts": 1.5, "ns": "a.b", "documentation_url": "d", "seq": 9, "thing_seq": 4, "received": 2.0}}, "seq": 9, "epoch": "ee"}`
	if string(one) != want {
		t.Errorf("got\n%s, want\n%s", one, want)
	}
	two := string(AppendSnapshotTail(dst, 9, "ee", 2, 3))
	if want := `, "epoch": "ee", "part": 2, "parts": 3}`; two[len(two)-len(want):] != want {
		t.Errorf("got %s", two)
	}
}

func TestAppendEntryWide(t *testing.T) {
	oldest := thing.Micros(5e6)
	e := Entry{Update: thing.Update{Name: "a", Data: []byte("1"), TS: 1}, Wide: &Wide{Source: "::1", Transport: "udp", Sources: 2, Kept: 7, Oldest: &oldest}}
	want := `{"data": 1, "ts": 1.0, "ns": "a", "documentation_url": null, "seq": null, "thing_seq": null, "received": 0.0, "source": {"address": "::1", "transport": "udp"}, "sources": 2, "kept": 7, "oldest": 5.0}`
	if got := string(AppendEntry(nil, &e)); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	back, err := ParseEntry([]byte(want))
	if err != nil || back.Wide == nil || *back.Wide.Oldest != oldest {
		t.Fatalf("read back as %+v, %v", back, err)
	}
	back.Wide.Oldest = &oldest
	if *back.Wide != *e.Wide {
		t.Errorf("read back as %+v", back.Wide)
	}
	e.Wide = &Wide{}
	if got := string(AppendEntry(nil, &e)); got[len(got)-len(`"source": null, "sources": 0, "kept": 0, "oldest": null}`):] != `"source": null, "sources": 0, "kept": 0, "oldest": null}` {
		t.Errorf("got %s", got)
	}
	line := AppendEntry(nil, &Entry{Update: thing.Update{Name: "a.b"}, Unknown: true})
	if string(line) != `{"ns": "a.b", "unknown": true}` {
		t.Errorf("got %s", line)
	}
	if back, err := ParseEntry(line); err != nil || !back.Unknown || back.Update.Name != "a.b" {
		t.Errorf("read back as %+v, %v", back, err)
	}
}

func TestPrefix(t *testing.T) {
	for _, c := range []struct {
		name thing.Name
		tree bool
		want []string
	}{
		{"", true, []string{`{"type": "thing_update"`}},
		{"", false, []string{`{"type": "thing_update", "ns": ""`}},
		{"shop", false, []string{`{"type": "thing_update", "ns": "shop"`}},
		{"shop", true, []string{`{"type": "thing_update", "ns": "shop"`, `{"type": "thing_update", "ns": "shop.`}},
	} {
		got := Prefix(c.name, c.tree)
		if len(got) != len(c.want) {
			t.Errorf("%q %v: %q", c.name, c.tree, got)
			continue
		}
		for i := range got {
			if string(got[i]) != c.want[i] {
				t.Errorf("%q %v: %q", c.name, c.tree, got)
			}
		}
	}
}

func TestAppendString(t *testing.T) {
	for in, want := range map[string]string{
		"":                       `""`,
		"é😀</>&":                 `"é😀</>&"`,
		"\"\\\n\r\t\x00\x1f\x7f": "\"\\\"\\\\\\n\\r\\t\\u0000\\u001f\x7f\"",
		"a\xffb\xed\xa0\x80":     `"a` + "\uFFFD" + `b` + "\uFFFD\uFFFD\uFFFD" + `"`,
		"cut \xe2\x82":           `"cut ` + "\uFFFD\uFFFD" + `"`,
	} {
		got := appendString([]byte(nil), in)
		if string(got) != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
		checkLine(t, got)
	}
}
