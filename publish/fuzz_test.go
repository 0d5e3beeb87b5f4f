package publish

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"reflect"
	"testing"

	"tbhist/internal/wire"
	"tbhist/store"
	"tbhist/thing"
)

// sealedCursor is what anybody can make: a cursor of any bytes, with a sum
// that fits.
func sealedCursor(body []byte) string {
	b := binary.BigEndian.AppendUint32(append([]byte{}, body...), crc32.Checksum(body, castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

// Cursors that somebody made up are refused, or questions like any other:
// what they say is the same when it is written again, they are answered, and
// their answers end.
func FuzzCursorMadeUp(f *testing.F) {
	r := newRig(f, Options{})
	for range 5 {
		r.publish("a", "b", "a.b")
	}
	epoch := r.h.State().Epoch
	since, at, after := thing.Micros(-5), thing.Micros(1e15), thing.Name("a.b")
	for _, q := range []question{
		{typ: wire.TypeReplay, epoch: epoch, query: store.Query{Tree: true, Since: &since, Resume: []byte{1, 2, 3}}},
		{typ: wire.TypeReplay, epoch: epoch, query: store.Query{Name: "a", After: 3, Last: 2, Limit: 1, By: store.ByTS}},
		{typ: wire.TypeDirectory, epoch: epoch, query: store.Query{Tree: true}, at: &at, after: &after, wide: true},
	} {
		raw, err := base64.RawURLEncoding.DecodeString(q.cursor())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw[:len(raw)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		cursor := sealedCursor(body)
		var q question
		if q.parse(cursor) != nil {
			return
		}
		var again question
		if err := again.parse(q.cursor()); err != nil || !reflect.DeepEqual(again, q) {
			t.Errorf("%+v became %+v: %v", q, again, err)
		}
		if !thing.ValidName(q.query.Name) || q.after != nil && !thing.ValidName(*q.after) {
			t.Errorf("asks for %q after %v", q.query.Name, q.after)
		}
		for range 50 {
			request := fmt.Appendf(nil, `{"type": %q, "page_bytes": 1, "cursor": %q}`, q.typ, cursor)
			a := &asked{p: r.Publisher}
			head, _, err := parseReply(t, a.frames(context.Background(), [][]byte{request}))
			a.done()
			if err != nil || head.Next == "" {
				return
			}
			cursor = head.Next
		}
		t.Error("an answer without end")
	})
}
