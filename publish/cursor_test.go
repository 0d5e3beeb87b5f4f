package publish

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

func TestCursorRoundTrip(t *testing.T) {
	since, until, at, after := thing.Micros(-5), thing.Micros(1e15), thing.Micros(7), thing.Name("a.b")
	for _, q := range []question{
		{typ: wire.TypeReplay, epoch: "e"},
		{typ: wire.TypeReplay, epoch: "0123456789abcdef", query: store.Query{
			Name: "a.b", Tree: true, After: 1 << 60, Last: 3, Limit: 1, By: store.ByTS,
			Since: &since, Until: &until, Resume: []byte("where it was"),
		}},
		{typ: wire.TypeDirectory, epoch: "e", query: store.Query{Tree: true}, at: &at, after: &after, wide: true},
	} {
		var got question
		if err := got.parse(q.cursor()); err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%+v\nbecame %+v: %v", q, got, err)
		}
	}
}

// Any change to a cursor is noticed.
func TestCursorChanged(t *testing.T) {
	q := question{typ: wire.TypeReplay, epoch: "e1", query: store.Query{Name: "a", Resume: []byte("xyz")}}
	c := q.cursor()
	for i := range c {
		b := []byte(c)
		if b[i]++; b[i] == c[i] {
			continue
		}
		var got question
		if err := got.parse(string(b)); err == nil {
			t.Errorf("byte %d changed, and the cursor is taken", i)
		}
		if err := got.parse(c[:i]); err == nil {
			t.Errorf("cut to %d bytes, the cursor is taken", i)
		}
	}
}

func FuzzCursor(f *testing.F) {
	q := question{typ: wire.TypeReplay, epoch: "e1", query: store.Query{Name: "a", Tree: true, Resume: []byte("xyz")}}
	f.Add(q.cursor())
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, cursor string) {
		var q question
		if q.parse(cursor) != nil {
			return
		}
		if again := q.cursor(); again != cursor {
			// Only padded varints may be written otherwise.
			var p question
			if err := p.parse(again); err != nil || !reflect.DeepEqual(p, q) {
				t.Errorf("%+v became %+v: %v", q, p, err)
			}
		}
	})
}

// Whatever is asked, there is one well-formed answer, and pages end.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"type": "replay", "ns": "a", "page_bytes": 1, "last": 2}`))
	f.Add([]byte(`{"type": "directory", "at": -5, "wide": true, "page_bytes": 1}`))
	f.Add([]byte(`{"type": "refused", "id": "x"}`))
	f.Add([]byte(`{"type": "replay", "cursor": "AQ"}`))
	r := newRig(f, Options{})
	for range 5 {
		r.publish("a", "b", "a.b")
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		for range 50 {
			a := &asked{p: r.Publisher}
			head, _, err := parseReply(t, a.frames(context.Background(), [][]byte{request}))
			a.done()
			if err != nil || head.Next == "" {
				return
			}
			typ := wire.TypeReplay
			if head.Type == wire.TypeDirectoryPage {
				typ = wire.TypeDirectory
			}
			request = fmt.Appendf(nil, `{"type": %q, "page_bytes": 1, "cursor": %q}`, typ, head.Next)
		}
		t.Error("an answer without end")
	})
}
