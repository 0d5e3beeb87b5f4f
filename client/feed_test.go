package client

import (
	"errors"
	"reflect"
	"testing"

	"tbhist/internal/wire"
)

func TestFeed(t *testing.T) {
	f := newFake(t, nil)
	go func() {
		f.awaitSubscribed(4)
		entry, other := wire.Entry{Update: update(1), Doc: []byte(`"http://x"`)}, wire.Entry{Update: Update{Name: "shopping", Data: []byte("1")}}
		snapshot := wire.AppendSnapshotHead(nil, 1)
		snapshot = append(wire.AppendSnapshotEntry(snapshot, &entry), ", "...)
		snapshot = wire.AppendSnapshotTail(wire.AppendSnapshotEntry(snapshot, &other), 1, "e1", 1, 1)
		f.publish(snapshot, []byte("junk"), []byte(`{"type": "thing_news"}`), updateLine(2),
			heartbeatLine(wire.Heartbeat{Seq: 9, SkippedFrom: 3, SkippedTo: 8, Skipped: 6}))
		f.cut()
	}()
	var updates []Update
	var skipped uint64
	var last error
	for m, err := range f.client().Feed(t.Context(), FeedQuery{Name: "shop", Snapshots: true}) {
		updates = append(updates, m.Updates...)
		skipped += m.Skipped
		last = err
	}
	first := update(1)
	first.Doc = []byte(`"http://x"`)
	if !errors.Is(last, ErrLost) || skipped != 6 || !reflect.DeepEqual(updates, []Update{first, update(2)}) {
		t.Errorf("got %+v, skipped %d, %v", updates, skipped, last)
	}
	want := []string{
		`{"type": "thing_update", "ns": "shop"`, `{"type": "thing_update", "ns": "shop.`,
		wire.SnapshotPrefix, wire.HeartbeatPrefix,
	}
	if got := f.awaitSubscribed(4); !reflect.DeepEqual(got, want) {
		t.Errorf("subscribed to %q, want %q", got, want)
	}
}
