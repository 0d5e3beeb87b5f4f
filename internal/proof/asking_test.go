//go:build proof

package proof

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// askedUpdates is what is in history when it is asked.
const askedUpdates = 3000

// Every socket type of libzmq that may ask history gets its answers, and
// nobody else's.
func TestAskingHistory(t *testing.T) {
	b, z := startBroker(t), startLibzmq(t)
	in := z.publisher(b, "in", b.url(inputPort), nil)
	out := z.open("SUB", "out", b.url(feedPort), nil, `{"type": "thing_update"`)
	eventually(t, "the subscriber is there", func() bool { return b.metric("tbhist_subscribers") == 1 })
	in.publish(0, askedUpdates, 10, 500)
	var live []string
	for _, u := range out.updates(askedUpdates) {
		live = append(live, u.line)
	}

	for _, kind := range []struct {
		name, socket string
		delimiter    bool
		identity     string
	}{
		{"REQ", "REQ", false, ""},
		{"REQ with an identity", "REQ", false, "me"},
		{"DEALER", "DEALER", false, ""},
		{"DEALER with an identity", "DEALER", false, "me too"},
		{"DEALER with delimiter", "DEALER", true, ""},
		{"DEALER with delimiter and identity", "DEALER", true, strings.Repeat("i", 255)},
	} {
		t.Run(kind.name, func(t *testing.T) {
			z := z.in(t)
			o := options{}
			if kind.identity != "" {
				o["ROUTING_ID"] = kind.identity
			}
			a := z.asker(kind.socket, kind.name, b, o)
			a.delimiter = kind.delimiter
			asksHistory(t, a, live)
			if kind.socket == "DEALER" {
				pipelines(t, a)
			}
			a.wantUnbroken()
		})
	}
	t.Run("two with one identity", func(t *testing.T) { namesakes(t, z, b) })
	measured(t, "history asked through REQ and DEALER of libzmq, 6 ways, each the %d live lines byte for byte; errors and 1 MiB requests answered", askedUpdates)
}

// asksHistory asks what there is to ask, well and badly.
func asksHistory(t *testing.T, a asker, live []string) {
	t.Helper()
	for _, pageBytes := range []any{nil, 1, 4 << 20} {
		request := args{"type": "replay", "page_bytes": pageBytes}
		if pageBytes == 1 { // one line a page
			request["ns"], request["last"] = "load.t7", 5
		}
		got, pages := a.all(request)
		want, wantPages := live, (len(live)*700)/(256<<10)
		switch pageBytes {
		case 1:
			want, wantPages = lastOf(live, "load.t7", 5), 5
		case 4 << 20:
			wantPages = 1
		}
		if !slices.Equal(got, want) {
			t.Fatalf("page_bytes %v: the replay of %d lines is not the %d lines that were live", pageBytes, len(got), len(want))
		}
		if pages < wantPages {
			t.Errorf("page_bytes %v: %d pages, not %d", pageBytes, pages, wantPages)
		}
	}
	if lines, _ := a.all(args{"type": "directory"}); len(lines) != 10 {
		t.Errorf("the directory has %d Things, not 10", len(lines))
	}

	for _, bad := range []struct {
		body []byte
		code string
	}{
		{[]byte{'!'}, "bad_request"},
		{[]byte(`{"type": "replay", "limit": 0, "id": "z"}`), "bad_request"},
		{append([]byte(`{"type": "replay", "ns": "`), append(bytes.Repeat([]byte("a"), mib), `"}`...)...), "bad_request"},
		{bytes.Repeat([]byte(" "), 2*mib), "too_large"},
	} {
		a.askBytes(bad.body)
		if h, _ := a.answer(); h.Type != "error" || h.Code != bad.code || h.Message == "" {
			t.Errorf("%.40q is answered with %+v, not with the error %s", bad.body, h, bad.code)
		}
	}
}

// lastOf gives the last n lines of a Thing.
func lastOf(lines []string, ns string, n int) []string {
	var of []string
	for _, l := range lines {
		if strings.HasPrefix(l, `{"type": "thing_update", "ns": "`+ns+`"`) {
			of = append(of, l)
		}
	}
	return of[len(of)-n:]
}

// pipelines asks many things before it takes the first answer; the answers
// come in the order asked.
func pipelines(t *testing.T, a asker) {
	t.Helper()
	const requests = 50
	for id := range requests {
		request := args{"type": "directory", "id": id, "ns": fmt.Sprintf("load.t%d", id%10)}
		if id%7 == 0 {
			request = args{"type": "replay", "id": id, "limit": 100}
		}
		a.ask(request)
	}
	for id := range requests {
		if h, _ := a.answer(); string(h.ID) != fmt.Sprint(id) {
			t.Fatalf("answer %d is %+v", id, h)
		}
	}
}

// namesakes are two sockets with the same identity, at the same time.
func namesakes(t *testing.T, z libzmq, b *broker) {
	z = z.in(t)
	const requests = 20
	var askers []asker
	for i := range 2 {
		askers = append(askers, z.asker("DEALER", fmt.Sprintf("namesake %d", i), b, options{"ROUTING_ID": "the same"}))
	}
	for n := range requests {
		for i, a := range askers {
			a.ask(args{"type": "replay", "id": fmt.Sprintf("%d of %d", n, i), "ns": fmt.Sprintf("load.t%d", i), "last": 3})
		}
	}
	for n := range requests {
		for i, a := range askers {
			h, lines := a.answer()
			var id string
			if err := json.Unmarshal(h.ID, &id); err != nil || id != fmt.Sprintf("%d of %d", n, i) {
				t.Fatalf("asker %d got the answer with id %s: %+v", i, h.ID, h)
			}
			for _, l := range lines {
				if u := parse(t, l); u.NS != fmt.Sprintf("load.t%d", i) {
					t.Fatalf("asker %d got %s", i, l)
				}
			}
		}
	}
	for _, a := range askers {
		if frames := a.tryRecv(); frames != nil {
			t.Errorf("%s got one answer too many: %q", a.name, frames)
		}
		a.wantUnbroken()
	}
}

// tryRecv gives the message that is there already, or nil.
func (s socket) tryRecv() (frames [][]byte) {
	s.t.Helper()
	s.do("recv", args{"name": s.name, "timeout": 0}, &frames)
	return frames
}
