package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/metrics"
	"tbhist/store"
	"tbhist/thing"
)

// ask gives the answer to a request without a connection.
func (r *rig) ask(request string) (*wire.PageHead, []string, error) {
	r.t.Helper()
	a := &asked{p: r.Publisher, addr: netip.MustParseAddr("127.0.0.1"), close: func() error { return nil }}
	defer a.done()
	ctx, cancel := withTimeout(r.t)
	defer cancel()
	return parseReply(r.t, a.frames(ctx, [][]byte{[]byte(request)}))
}

// frames gives the frames of the answer to a request.
func (a *asked) frames(ctx context.Context, request [][]byte) [][]byte {
	head := a.answer(ctx, request)
	if !a.page {
		return [][]byte{head}
	}
	return [][]byte{head, bytes.Join(a.lines.pieces, nil)}
}

func parseReply(t testing.TB, frames [][]byte) (*wire.PageHead, []string, error) {
	t.Helper()
	head, err := wire.ParseHead(frames[0])
	if err != nil {
		if len(frames) != 1 {
			t.Errorf("an error of %d frames", len(frames))
		}
		return nil, nil, err
	}
	if len(frames) != 2 {
		t.Fatalf("an answer of %d frames", len(frames))
	}
	var lines []string
	for l := range bytes.Lines(frames[1]) {
		lines = append(lines, strings.TrimSuffix(string(l), "\n"))
	}
	if uint64(len(lines)) != head.Count {
		t.Errorf("%d lines, count is %d", len(lines), head.Count)
	}
	return head, lines, nil
}

// mustAsk is ask where an answer is due.
func (r *rig) mustAsk(request string) (*wire.PageHead, []string) {
	r.t.Helper()
	head, lines, err := r.ask(request)
	if err != nil {
		r.t.Fatalf("%s: %v", request, err)
	}
	return head, lines
}

// all asks page by page.
func (r *rig) all(typ, rest string) (heads []*wire.PageHead, lines []string) {
	r.t.Helper()
	request := fmt.Sprintf(`{"type": %q%s}`, typ, rest)
	for {
		head, page := r.mustAsk(request)
		heads, lines = append(heads, head), append(lines, page...)
		if head.Next == "" {
			return heads, lines
		}
		if len(heads) > 10000 {
			r.t.Fatal("an answer without end")
		}
		request = fmt.Sprintf(`{"type": %q, "cursor": %q, "page_bytes": 700}`, typ, head.Next)
	}
}

// errorFrame is a wire.ErrorFrame that is no error itself: what a test asks
// for is no failure that it might forget to look at.
type errorFrame wire.ErrorFrame

func (r *rig) wantCode(request, code string) *errorFrame {
	r.t.Helper()
	_, _, err := r.ask(request)
	var e *wire.ErrorFrame
	if !errors.As(err, &e) || e.Code != code {
		r.t.Errorf("%s: %v, want %s", request, err, code)
		return &errorFrame{}
	}
	return (*errorFrame)(e)
}

func TestReplayIsTheFeed(t *testing.T) {
	r := newRig(t, Options{})
	s := r.serve(everything)
	for range 10 {
		r.publish("a", "b", "a.b")
	}
	s.take(0)
	r.idle()
	_, lines := r.mustAsk(`{"type": "replay"}`)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.bodies {
		if lines[i] != string(b) {
			t.Fatalf("line %d is\n%s\nand was live\n%s", i, lines[i], b)
		}
	}
	if len(lines) != 30 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestReplayPagesAddUp(t *testing.T) {
	r := newRig(t, Options{})
	r.h.ring = 60
	for i := range 100 {
		r.pass(time.Second)
		r.publish("a", "b", "a.b")
		if i%3 == 0 {
			r.publish("c")
		}
	}
	now := r.clockNow().Unix()
	for _, rest := range []string{
		``, `, "ns": "a"`, `, "ns": "a", "tree": false`, `, "ns": "nobody"`,
		`, "after": 150`, `, "last": 7`, `, "limit": 33`, `, "last": 20, "limit": 33, "ns": "a"`,
		`, "since": -20`, `, "until": -20`, fmt.Sprintf(`, "since": %d, "until": %d, "by": "ts"`, now-50, now-10),
	} {
		one, whole := r.all("replay", rest+`, "page_bytes": 4194304`)
		if len(one) != 1 {
			t.Fatalf("%s: %d pages", rest, len(one))
		}
		heads, lines := r.all("replay", rest+`, "page_bytes": 700`)
		if fmt.Sprint(lines) != fmt.Sprint(whole) {
			t.Errorf("%s: %d lines in %d pages, %d in one", rest, len(lines), len(heads), len(whole))
		}
		var evicted uint64
		for _, h := range heads {
			evicted += h.Evicted
		}
		if evicted != one[0].Evicted {
			t.Errorf("%s: %d evicted in pages, %d in one", rest, evicted, one[0].Evicted)
		}
		if last := heads[len(heads)-1]; last.Limited != one[0].Limited {
			t.Errorf("%s: limited is %v in pages", rest, last.Limited)
		}
		if len(whole) > 10 && len(heads) < 3 {
			t.Errorf("%s: %d lines in %d pages of 700 bytes", rest, len(whole), len(heads))
		}
	}
	_, lines := r.mustAsk(`{"type": "replay", "limit": 5, "after": 150}`)
	if m, err := wire.ParseMessage([]byte(lines[0])); err != nil || m.Update.Seq != 151 || len(lines) != 5 {
		t.Errorf("5 after 150 are %v", lines)
	}
}

// Relative times are those of the first request, however long the pages
// take; and an update larger than a page makes a page of its own.
func TestReplayCursorHoldsTheQuestion(t *testing.T) {
	r := newRig(t, Options{})
	for range 20 {
		r.pass(time.Second)
		r.publish("a", "b")
	}
	request := `{"type": "replay", "ns": "a", "since": -9.5, "page_bytes": 1}`
	for n := uint64(11); ; n++ {
		head, lines := r.mustAsk(request)
		if len(lines) != 1 || head.First != 2*n-1 || head.Last != head.First {
			t.Fatalf("page %d: %+v %s", n, head, lines)
		}
		if head.Next == "" {
			if n != 20 {
				t.Errorf("the last is %d", n)
			}
			break
		}
		r.pass(time.Hour)
		request = fmt.Sprintf(`{"type": "replay", "page_bytes": 1, "ns": "b", "unknown": 1, "cursor": %q}`, head.Next)
	}
}

func TestHistoryID(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("a")
	for _, id := range []string{`"x y"`, `17`, `""`} {
		for _, request := range []string{`"type": "replay"`, `"type": "directory"`, `"type": "refused"`} {
			if head, _ := r.mustAsk(`{"id": ` + id + `, ` + request + `}`); string(head.ID) != id {
				t.Errorf("%s: id %s, want %s", request, head.ID, id)
			}
		}
		if e := r.wantCode(`{"type": "replay", "limit": 0, "id": `+id+`}`, wire.CodeBadRequest); string(e.ID) != id {
			t.Errorf("error: id %s, want %s", e.ID, id)
		}
	}
}

func TestHistoryErrors(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("a", "b")
	for _, request := range []string{
		``, `x`, `[]`, `{}`, `{"type": "reply"}`, `{"type": 5}`, `{"type": "replay", "last": -1}`, `{"type": "replay", "limit": 0}`,
		`{"type": "replay", "page_bytes": 0}`, `{"type": "replay", "ns": "A"}`, `{"type": "replay", "sinc": 5}`,
		`{"type": "replay", "cursor": "x"}`, `{"type": "replay", "cursor": ""}`, `{"type": "directory", "after": 5}`,
		`{"type": "replay"} x`,
	} {
		e := r.wantCode(request, wire.CodeBadRequest)
		if e.Message == "" || e.Epoch != "e1" {
			t.Errorf("%s: %+v", request, e)
		}
	}
	if e := r.wantCode(`{"type": "reply"}`, wire.CodeBadRequest); !strings.Contains(e.Message, `"replay"`) {
		t.Errorf("an unknown type: %s", e.Message)
	}
	r.wantCode(`{"type": "replay", "epoch": "e0"}`, wire.CodeEpochChanged)
	r.wantCode(`{"type": "directory", "epoch": "e0"}`, wire.CodeEpochChanged)
	r.mustAsk(`{"type": "replay", "epoch": "e1"}`)
	r.wantCode(`{"type": "replay", "id": "`+strings.Repeat("x", MaxRequestBytes)+`"}`, wire.CodeTooLarge)

	other := question{typ: wire.TypeReplay, epoch: "e0"}
	r.wantCode(fmt.Sprintf(`{"type": "replay", "cursor": %q}`, other.cursor()), wire.CodeEpochChanged)
	other.epoch = "e1"
	r.wantCode(fmt.Sprintf(`{"type": "directory", "cursor": %q}`, other.cursor()), wire.CodeBadRequest)
	other.query.Resume = []byte("not a position")
	r.wantCode(fmt.Sprintf(`{"type": "replay", "cursor": %q}`, other.cursor()), wire.CodeBadRequest)

	r.h.set(func(h *fakeHistory) { h.readErr = &store.CorruptionError{Where: "log", Err: errors.New("checksum")} })
	if e := r.wantCode(`{"type": "replay"}`, wire.CodeUnavailable); !strings.Contains(e.Message, "checksum") {
		t.Errorf("damage: %s", e.Message)
	}
	r.h.set(func(h *fakeHistory) { h.readErr = store.ErrClosed })
	r.wantCode(`{"type": "replay"}`, wire.CodeUnavailable)

	a := &asked{p: r.Publisher}
	for _, body := range [][][]byte{nil, {[]byte(`{"type": "replay"}`), nil}} {
		if _, _, err := parseReply(t, a.frames(context.Background(), body)); err == nil {
			t.Errorf("a request of %d frames is taken", len(body))
		}
	}
}

func TestDirectory(t *testing.T) {
	r := newRig(t, Options{})
	r.publish("b", "a.b", "a", "a-b", "a")
	names := func(lines []string) (names []string) {
		for _, l := range lines {
			e, err := wire.ParseEntry([]byte(l))
			if err != nil {
				t.Fatalf("%s: %v", l, err)
			}
			names = append(names, string(e.Update.Name))
		}
		return names
	}
	head, lines := r.mustAsk(`{"type": "directory"}`)
	if got := fmt.Sprint(names(lines)); got != "[a a-b a.b b]" || head.Head != 5 || head.Epoch != "e1" {
		t.Errorf("%s, %+v", got, head)
	}
	if want := `{"data": {"n":5}, "ts": 1700000000.0, "ns": "a", "documentation_url": null, "seq": 5, "thing_seq": 2, "received": 1700000000.0}`; lines[0] != want {
		t.Errorf("got\n%s\nwant\n%s", lines[0], want)
	}
	_, tree := r.mustAsk(`{"type": "directory", "ns": "a"}`)
	_, one := r.mustAsk(`{"type": "directory", "ns": "a", "tree": false}`)
	_, none := r.mustAsk(`{"type": "directory", "ns": "zoo"}`)
	if got := fmt.Sprint(names(tree), names(one), names(none)); got != "[a a.b] [a] []" {
		t.Error(got)
	}
	for _, rest := range []string{``, `, "wide": true`, `, "at": 0`, `, "at": -1`} {
		_, whole := r.all("directory", rest)
		heads, paged := r.all("directory", rest+`, "page_bytes": 1`)
		if fmt.Sprint(whole) != fmt.Sprint(paged) || len(whole) > 0 && len(heads) < 2 {
			t.Errorf("%s: %d lines in %d pages, %d in one", rest, len(paged), len(heads), len(whole))
		}
	}
}

func TestDirectoryWide(t *testing.T) {
	r := newRig(t, Options{})
	r.h.ring = 2
	for range 3 {
		r.pass(time.Second)
		r.publish("a")
	}
	r.Publisher.o.Directory.Walk = func(after *thing.Name, under thing.Name, tree bool, yield func(*Entry) bool) {
		r.d.walk(after, under, tree, func(e *Entry) bool {
			e.Source, e.Sources = &thing.Source{Addr: netip.MustParseAddr("10.0.0.7"), Transport: thing.UDP}, 3
			return yield(e)
		})
	}
	_, lines := r.mustAsk(`{"type": "directory", "wide": true}`)
	e, err := wire.ParseEntry([]byte(lines[0]))
	if err != nil || e.Wide == nil {
		t.Fatalf("%s: %v", lines[0], err)
	}
	if w := e.Wide; w.Source != "10.0.0.7" || w.Transport != "udp" || w.Sources != 3 || w.Kept != 2 || w.Oldest == nil || *w.Oldest != r.h.all[1].Received {
		t.Errorf("%+v", w)
	}
}

func TestDirectoryAt(t *testing.T) {
	r := newRig(t, Options{})
	r.h.ring = 2
	for range 4 {
		r.pass(10 * time.Second)
		r.publish("a", "b")
	}
	r.pass(10 * time.Second)
	r.publish("b", "late")
	// a: 20 and 10 s ago are held; b: 10 and 0.
	_, lines := r.mustAsk(`{"type": "directory", "at": -15}`)
	if len(lines) != 2 || !strings.Contains(lines[0], `"seq": 5`) || lines[1] != `{"ns": "b", "unknown": true}` {
		t.Errorf("%q", lines)
	}
}

func TestRefused(t *testing.T) {
	r := newRig(t, Options{Refusals: func() []wire.Refused {
		return []wire.Refused{{Time: 5e6, Source: "10.0.0.1", Transport: "udp", Reason: "not_json", Sample: "x"}, {Time: 6e6}}
	}})
	head, lines := r.mustAsk(`{"type": "refused"}`)
	if head.Type != wire.TypeRefusedPage || len(lines) != 2 {
		t.Fatalf("%+v %q", head, lines)
	}
	if got, err := wire.ParseRefused([]byte(lines[0])); err != nil || got.Source != "10.0.0.1" || got.Time != 5e6 {
		t.Errorf("%+v %v", got, err)
	}
}

// Beyond what is read at once, requests wait, and then are told so.
func TestBusy(t *testing.T) {
	hm := metrics.NewHistory(nil)
	r := newRig(t, Options{HistoryMetrics: hm})
	r.answers.patience = 20 * time.Millisecond
	release, begun := make(chan struct{}), make(chan struct{}, pagesAtOnce)
	r.h.set(func(h *fakeHistory) {
		h.onRead = func(context.Context) {
			begun <- struct{}{}
			<-release
		}
	})
	done := make(chan error)
	for range pagesAtOnce {
		go func() {
			_, _, err := r.ask(`{"type": "replay"}`)
			done <- err
		}()
	}
	for range pagesAtOnce {
		<-begun
	}
	r.wantCode(`{"type": "replay"}`, wire.CodeBusy)
	close(release)
	for range pagesAtOnce {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	r.h.set(func(h *fakeHistory) { h.onRead = nil })
	r.mustAsk(`{"type": "replay"}`)
	if len(r.answers.byAddr) != 0 || len(r.answers.inFlight) != 0 {
		t.Errorf("%d addresses, %d answers are left", len(r.answers.byAddr), len(r.answers.inFlight))
	}
}

// One address cannot take all the room, and who takes an answer slowly makes
// room for others.
func TestAnswersInMemory(t *testing.T) {
	var a answers
	a.init()
	a.patience = 20 * time.Millisecond
	ctx, cancel := withTimeout(t)
	defer cancel()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	const size, perAddr = 4 << 20, addressBytes / (4 << 20)
	var held []*answer
	closed := 0
	take := func(i int) error {
		an, err := a.take(ctx, addr(i), size, func() error { closed++; return nil })
		if err == nil {
			held = append(held, an)
		}
		return err
	}
	for range perAddr {
		if err := take(1); err != nil {
			t.Fatal(err)
		}
	}
	if err := take(1); !errors.Is(err, errBusy) {
		t.Errorf("one answer too many for one address: %v", err)
	}
	for i := range answerBytes/size - perAddr {
		if err := take(2 + i/perAddr); err != nil {
			t.Fatal(err)
		}
	}
	if err := take(9); !errors.Is(err, errBusy) || closed != 0 {
		t.Errorf("beyond all room: %v, %d closed", err, closed)
	}
	a.sending(held[0])
	if err := take(9); !errors.Is(err, errBusy) || closed > 1 {
		t.Errorf("%v, %d closed", err, closed)
	}
	if err := take(9); !errors.Is(err, errBusy) || closed == 0 {
		t.Errorf("%v, %d closed, want the one that was long at it", err, closed)
	}
	for _, an := range held {
		a.give(an)
	}
	if err := take(9); err != nil {
		t.Error(err)
	}
}
