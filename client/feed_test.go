package client

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

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
		f.publish(snapshot, beat(1), []byte("junk"), []byte(`{"type": "thing_news"}`), updateLine(2),
			heartbeatLine(wire.Heartbeat{Seq: 9, SkippedFrom: 3, SkippedTo: 8, Skipped: 6}))
		f.cut()
	}()
	var updates []Update
	var skipped uint64
	var down error
	for m, err := range f.client().Feed(t.Context(), FeedQuery{Name: "shop", Snapshots: true}) {
		if err != nil {
			t.Fatal(err)
		}
		updates = append(updates, m.Updates...)
		skipped += m.Skipped
		if down = m.Disconnected; down != nil {
			break
		}
	}
	first := update(1)
	first.Doc = []byte(`"http://x"`)
	if !errors.Is(down, ErrLost) || skipped != 6 || !reflect.DeepEqual(updates, []Update{first, update(2)}) {
		t.Errorf("got %+v, skipped %d, %v", updates, skipped, down)
	}
	want := []string{
		`{"type": "thing_update", "ns": "shop"`, `{"type": "thing_update", "ns": "shop.`,
		wire.SnapshotPrefix, wire.HeartbeatPrefix,
	}
	if got := f.awaitSubscribed(4); !reflect.DeepEqual(got[:4], want) {
		t.Errorf("subscribed to %q, want %q", got, want)
	}
}

// heard tells the messages of a Feed as words, until so many were heard.
func heard(t *testing.T, f *fakeBroker, q FeedQuery, n int) string {
	t.Helper()
	var words []string
	for m, err := range f.client().Feed(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Disconnected != nil {
			words = append(words, "down")
		}
		if m.Reconnected {
			words = append(words, "up")
		}
		if m.NewEpoch {
			words = append(words, "new:"+m.Epoch)
		}
		if m.Missed > 0 {
			words = append(words, fmt.Sprint("missed", m.Missed))
		}
		if m.Skipped > 0 {
			words = append(words, fmt.Sprint("skipped", m.Skipped))
		}
		for i := range m.Updates {
			words = append(words, fmt.Sprint(m.Updates[i].Seq))
		}
		if len(words) >= n {
			break
		}
	}
	return strings.Join(words, " ")
}

// A feed that was cut goes on, and tells what the numbers prove to be missing.
func TestFeedReconnects(t *testing.T) {
	for name, c := range map[string]struct {
		q     FeedQuery
		first wire.Heartbeat // of the second connection
		want  string
	}{
		"everything": {FeedQuery{}, wire.Heartbeat{Seq: 6}, "3 4 down up missed2 7 missed1 9 skipped2 13"},
		// The heartbeat tells nothing of a subtree, the next update does.
		"a subtree":       {FeedQuery{Name: "shop"}, wire.Heartbeat{Seq: 6}, "3 4 down up missed2 7 missed1 9 skipped3 13"},
		"another history": {FeedQuery{}, wire.Heartbeat{Seq: 6, Epoch: "e2"}, "3 4 down up new:e2 7 missed1 9 skipped2 13"},
		"an older copy":   {FeedQuery{Name: "shop"}, wire.Heartbeat{Seq: 3}, "3 4 down up new:e1 7 missed1 9 skipped3 13"},
	} {
		f := newFake(t, nil)
		go func() {
			f.tell(1, updateLine(3), beat(3), updateLine(4))
			f.cutIn(1, updateLine(5))
			f.tell(2, heartbeatLine(c.first), updateLine(7), updateLine(9),
				heartbeatLine(wire.Heartbeat{Seq: 12, Epoch: c.first.Epoch, SkippedFrom: 10, SkippedTo: 12, Skipped: 3}), updateLine(13))
		}()
		if got := heard(t, f, c.q, len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}

// A broker that says nothing any more is as good as gone.
func TestFeedSilence(t *testing.T) {
	f := newFake(t, nil)
	feed, err := f.client().feed(t.Context(), "", true, false)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.close()
	feed.silence = time.Millisecond
	_, err = feed.next(t.Context())
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "nothing was heard") {
		t.Errorf("it ends with %v", err)
	}
}

// An original broker sends neither heartbeats nor numbers; its first message
// is met, and snapshots, which it always sends, keep the connection.
func TestFeedOfOriginal(t *testing.T) {
	live := []byte(`{"type": "thing_update", "ns": "shop", "data": 1, "ts": 2.5, "documentation_url": null}`)
	for name, c := range map[string]struct{ first, want string }{
		"an update":  {string(live), "0 0 down up 0 0"},
		"a snapshot": {`{"type": "thing_snapshot", "ts": 2.5, "data": {}}`, "0 down up 0"},
	} {
		f := newFake(t, nil)
		go func() {
			f.awaitSubscribed(3)
			f.publish([]byte(c.first))
			f.awaitSubscribed(4) // of snapshots
			f.publish(live)
			f.cut()
			f.awaitSubscribed(7)
			f.publish([]byte(c.first), live)
		}()
		if got := heard(t, f, FeedQuery{Name: "shop"}, len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		if got := f.awaitSubscribed(4)[3]; got != wire.SnapshotPrefix {
			t.Errorf("%s: subscribed to %q at last", name, got)
		}
	}
}
