//go:build proof

package proof

import (
	"encoding/json"
	"strings"
	"testing"
)

// head is the first frame of an answer of the history service.
type head struct {
	Type    string          `json:"type"`
	ID      json.RawMessage `json:"id"`
	Count   int             `json:"count"`
	Head    uint64          `json:"head"`
	Next    *string         `json:"next"`
	Evicted uint64          `json:"evicted"`
	Code    string          `json:"code"`
	Message string          `json:"message"`
}

// asker is a socket that asks history.
type asker struct {
	socket
	delimiter bool // an empty frame goes before each request and comes before each answer
}

func (z libzmq) asker(kind, name string, b *broker, o options) asker {
	z.t.Helper()
	return asker{socket: z.open(kind, name, b.url(historyPort), o)}
}

// ask sends a request without waiting for its answer.
func (a asker) ask(request any) {
	a.t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		a.t.Fatal(err)
	}
	a.askBytes(body)
}

func (a asker) askBytes(body []byte) {
	a.t.Helper()
	if a.delimiter {
		a.send([]byte{}, body)
	} else {
		a.send(body)
	}
}

// answer waits for the next answer: its head and its lines.
func (a asker) answer() (head, []string) {
	a.t.Helper()
	frames := a.recv()
	if a.delimiter {
		if len(frames[0]) != 0 {
			a.t.Fatalf("%s: the answer has no delimiter: %q", a.name, frames[0])
		}
		frames = frames[1:]
	}
	var h head
	if err := json.Unmarshal(frames[0], &h); err != nil {
		a.t.Fatalf("%s: %v in %q", a.name, err, frames[0])
	}
	if h.Type == "error" {
		if len(frames) != 1 {
			a.t.Fatalf("%s: an error of %d frames", a.name, len(frames))
		}
		return h, nil
	}
	if len(frames) != 2 {
		a.t.Fatalf("%s: an answer of %d frames: %q", a.name, len(frames), frames[0])
	}
	lines := strings.Split(strings.TrimSuffix(string(frames[1]), "\n"), "\n")
	if len(frames[1]) == 0 {
		lines = nil
	}
	if len(lines) != h.Count {
		a.t.Fatalf("%s: %d lines, and count says %d", a.name, len(lines), h.Count)
	}
	return h, lines
}

// all asks page by page until there is no next one.
func (a asker) all(request args) (lines []string, pages int) {
	a.t.Helper()
	for {
		a.ask(request)
		h, page := a.answer()
		if h.Type == "error" {
			a.t.Fatalf("%s: %v is answered with %s: %s", a.name, request, h.Code, h.Message)
		}
		if h.Evicted != 0 {
			a.t.Fatalf("%s: %d updates are not in history any more", a.name, h.Evicted)
		}
		lines, pages = append(lines, page...), pages+1
		if h.Next == nil {
			return lines, pages
		}
		request = args{"type": request["type"], "page_bytes": request["page_bytes"], "cursor": *h.Next}
	}
}

// wantWhole demands of a replay of everything that its seq has no hole and
// no double, nor the thing_seq of any Thing; it gives the last of each Thing.
func wantWhole(t *testing.T, lines []string) map[string]update {
	t.Helper()
	last := map[string]update{}
	for i, line := range lines {
		u := parse(t, line)
		if u.Seq != uint64(i+1) {
			t.Fatalf("line %d of the replay has seq %d", i+1, u.Seq)
		}
		if before := last[u.NS].ThingSeq; u.ThingSeq != before+1 {
			t.Fatalf("seq %d: %s goes from thing_seq %d to %d", u.Seq, u.NS, before, u.ThingSeq)
		}
		last[u.NS] = u
	}
	return last
}

// wantDirectory demands that the lines of a directory are the last of each
// Thing.
func wantDirectory(t *testing.T, lines []string, last map[string]update) {
	t.Helper()
	if len(lines) != len(last) {
		t.Errorf("the directory has %d Things, not %d", len(lines), len(last))
	}
	for _, line := range lines {
		e := parse(t, line)
		u, ok := last[e.NS]
		if !ok {
			t.Errorf("the directory has %q, of which history has nothing", e.NS)
			continue
		}
		if string(e.Data) != string(u.Data) || e.TS != u.TS || e.Seq != u.Seq || e.ThingSeq != u.ThingSeq || e.Received != u.Received {
			t.Errorf("the directory has\n%s\nand history\n%s", line, u.line)
		}
	}
}
