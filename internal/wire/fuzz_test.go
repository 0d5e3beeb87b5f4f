package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"testing"

	"tbhist/thing"
)

// seeds adds the small conformance cases of one transport.
func seeds(f *testing.F, transport string) {
	for _, c := range inputCases(f) {
		if c.Transport == transport && len(c.Frames[0]) < 512 {
			f.Add(c.Frames[0])
		}
	}
}

// checkDraft: what was taken is published as a valid line, and that line,
// sent in again, gives the same.
func checkDraft(t *testing.T, got *Draft) {
	t.Helper()
	if !thing.ValidName(got.NS) {
		t.Fatalf("name %q", got.NS)
	}
	if math.IsNaN(got.TS) || math.Abs(got.TS) > MaxTS {
		t.Fatalf("ts %v", got.TS)
	}
	line := AppendUpdate(nil, updateOf(got))
	checkLine(t, line)
	var again Draft
	d := NewDecoder(Limits{MaxBytes: 64 << 20, MaxNumber: DefaultMaxNumber})
	if _, err := d.JSON(nil, line, &again); err != nil {
		t.Fatalf("%v: %.300q", err, line)
	}
	if again.Nonfinite != 0 || again.Surrogates != 0 {
		t.Fatalf("not normalised: %.300q", line)
	}
	if second := AppendUpdate(nil, updateOf(&again)); !bytes.Equal(line, second) {
		t.Fatalf("%.300q became %.300q", line, second)
	}
	m, err := ParseMessage(line)
	if err != nil {
		t.Fatalf("a client: %v: %.300q", err, line)
	}
	if second := AppendUpdate(nil, &m.Update); !bytes.Equal(line, second) {
		t.Fatalf("%.300q became %.300q for a client", line, second)
	}
}

func checkRefusal(t *testing.T, arena []byte, err error) {
	t.Helper()
	var r *thing.Refusal
	if !errors.As(err, &r) || r != refusals[r.Reason] {
		t.Fatalf("not a shared refusal: %v", err)
	}
	if string(arena) != "arena" {
		t.Fatalf("arena is %.80q", arena)
	}
}

func FuzzJSON(f *testing.F) {
	seeds(f, "zmq")
	f.Add([]byte(`["a", 1, {"a": [NaN, 1e999, "\ud800"], "a": -Infinity}, null]`))
	d := NewDecoder(Limits{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		var got Draft
		arena, err := d.JSON([]byte("arena"), frame, &got)
		if !bytes.Equal(frame, before) {
			t.Fatal("the frame was written to")
		}
		if err != nil {
			checkRefusal(t, arena, err)
			if reasonOf(t, err) == thing.ReasonNotJSON && json.Valid(frame) {
				t.Fatal("it is JSON")
			}
			return
		}
		checkDraft(t, &got)
		// Another decoder finds the same values.
		var object map[string]json.RawMessage
		if got.Nonfinite == 0 && json.Unmarshal(frame, &object) == nil {
			if a, b := canon(t, got.Data), canon(t, object["data"]); a != b {
				t.Fatalf("data is %.300s, want %.300s", a, b)
			}
		}
	})
}

func FuzzMsgpack(f *testing.F) {
	seeds(f, "udp")
	f.Add([]byte(pack4("\x84\x01\xa1a\xa11\xc4\x01x\xc3\xca\x7f\xc0\x00\x00\xd6\xff\x00\x00\x00\x01\x90")))
	d := NewDecoder(Limits{})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		var got Draft
		arena, err := d.Msgpack([]byte("arena"), datagram, &got)
		if err != nil {
			checkRefusal(t, arena, err)
			return
		}
		checkDraft(t, &got)
	})
}

func FuzzParseMessage(f *testing.F) {
	f.Add(AppendUpdate(nil, referenceUpdate()))
	f.Add(AppendHeartbeat(nil, Heartbeat{Epoch: "ee", Seq: 1, TS: 5, Degraded: true, Skipped: 2, SkippedFrom: 1, SkippedTo: 3}))
	f.Add([]byte(`{"type": "thing_snapshot", "ts": 5.0, "data": {"a": {"ns": "a", "data": NaN, "ts": 1, "seq": 7}, "b": 5}, "part": 1, "parts": 2}`))
	f.Add([]byte(`{"ns": "a", "unknown": true}`))
	f.Add([]byte(`{"data": 1, "ts": 1.0, "ns": "a", "source": {"address": "::1", "transport": "udp"}, "sources": 2, "kept": 7, "oldest": 5.0}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := ParseMessage(line)
		if err == nil && m.Kind == KindUpdate && m.Update.Kept() {
			again := AppendUpdate(nil, &m.Update)
			checkLine(t, again)
			if back, err := ParseMessage(again); err != nil || !bytes.Equal(AppendUpdate(nil, &back.Update), again) {
				t.Fatalf("%.300q: %v", again, err)
			}
		}
		for _, e := range m.Snapshot.Entries {
			checkLine(t, AppendEntry(nil, &e))
		}
		if e, err := ParseEntry(line); err == nil {
			checkLine(t, AppendEntry(nil, &e))
		}
		if h, err := ParseHead(line); err == nil {
			checkLine(t, h.Append(nil))
		}
		if r, err := ParseRefused(line); err == nil {
			checkLine(t, r.Append(nil))
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"type": "replay", "ns": "a", "tree": true, "since": -1, "until": 5.5, "by": "ts", "after": 1, "last": 2, "limit": 3, "page_bytes": 4, "epoch": "e", "id": 5}`))
	f.Add([]byte(`{"type": "directory", "at": 1, "wide": true, "cursor": "c", "id": "x"}`))
	f.Add([]byte(`{"type": "refused"}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		r, err := ParseRequest(frame)
		if r == nil {
			t.Fatal("no request")
		}
		e := ErrorFrame{Code: CodeBadRequest, ID: r.ID}
		if err != nil {
			e.Message = err.Error()
		}
		checkLine(t, e.Append(nil))
		if err != nil {
			return
		}
		again := r.Append(nil)
		checkLine(t, again)
		if back, err := ParseRequest(again); err != nil || !bytes.Equal(back.Append(nil), again) {
			t.Fatalf("%.300q: %v", again, err)
		}
	})
}
