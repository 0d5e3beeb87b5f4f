package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tbhist/internal/wire"
)

// story runs a Follow and tells its events as words: the seq of an update,
// "u" for one that was not kept, "gap N", "caught". It ends the Follow when
// end says so.
func story(t *testing.T, f *fakeBroker, q Query, end func(words []string) bool) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var words []string
	for e, err := range f.client().Follow(ctx, q) {
		if err != nil {
			return words, err
		}
		switch e.Kind {
		case Updated:
			words = append(words, fmt.Sprint(e.Update.Seq))
			if e.Update.Seq == 0 {
				words[len(words)-1] = "u"
			}
		case Gap:
			words = append(words, fmt.Sprintf("gap%d%v", e.Missing, e.MissingExact))
		case CaughtUp:
			words = append(words, "caught")
		}
		if end(words) {
			return words, nil
		}
	}
	return words, errors.New("it ended without an error")
}

func until(last string) func([]string) bool {
	return func(words []string) bool { return words[len(words)-1] == last }
}

func expect(t *testing.T, got []string, want string) {
	t.Helper()
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

// What comes during the replay is held and handed on once.
func TestFollowHandOver(t *testing.T) {
	var f *fakeBroker
	rounds := 0
	f = newFake(t, func(r *wire.Request) [][]byte {
		switch rounds++; rounds {
		case 1: // 3 and 4 are live and in history
			f.awaitSubscribed(2)
			f.publish(heartbeatLine(wire.Heartbeat{Seq: 2}), updateLine(3), updateLine(4), updateLine(5))
			return replayPage(1, 4, 4, nil)
		default:
			t.Errorf("asked again: %s", r.Append(nil))
			return nil
		}
	})
	words, err := story(t, f, Query{}, until("5"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, words, "1 2 3 4 caught 5")
	if got := f.awaitSubscribed(2); !slices.Equal(got, []string{wire.UpdatePrefix, wire.HeartbeatPrefix}) {
		t.Errorf("subscribed to %q", got)
	}
}

// A subscription is not known to be at work before a heartbeat has come: an
// update that comes earlier may have followed one that did not come.
func TestFollowUnproven(t *testing.T) {
	var f *fakeBroker
	rounds := 0
	f = newFake(t, func(r *wire.Request) [][]byte {
		switch rounds++; rounds {
		case 1:
			f.awaitSubscribed(2)
			f.publish(updateLine(4)) // 3 was published before the subscription was at work
			return replayPage(1, 2, 2, nil)
		case 2:
			if *r.After != 2 || r.Epoch != "e1" {
				t.Errorf("asked %s", r.Append(nil))
			}
			f.publish(heartbeatLine(wire.Heartbeat{Seq: 4}), updateLine(5))
			return replayPage(3, 4, 4, nil)
		}
		t.Errorf("asked again: %s", r.Append(nil))
		return nil
	})
	words, err := story(t, f, Query{}, until("5"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, words, "1 2 caught 3 4 caught 5")
}

// A heartbeat that is ahead of history's answer shows what was missed.
func TestFollowHeartbeatAhead(t *testing.T) {
	var f *fakeBroker
	rounds := 0
	f = newFake(t, func(r *wire.Request) [][]byte {
		switch rounds++; rounds {
		case 1:
			f.awaitSubscribed(2)
			f.publish(heartbeatLine(wire.Heartbeat{Seq: 3}))
			return replayPage(1, 2, 2, nil)
		}
		f.publish(updateLine(4))
		return replayPage(3, 3, 3, nil)
	})
	words, err := story(t, f, Query{}, until("4"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, words, "1 2 caught 3 caught 4")
}

// What the broker skipped is asked of history; what that has no more is a
// gap.
func TestFollowSkipped(t *testing.T) {
	var f *fakeBroker
	rounds := 0
	f = newFake(t, func(r *wire.Request) [][]byte {
		switch rounds++; rounds {
		case 1:
			f.awaitSubscribed(2)
			f.publish(heartbeatLine(wire.Heartbeat{Seq: 0}), updateLine(1),
				heartbeatLine(wire.Heartbeat{Seq: 9, SkippedFrom: 2, SkippedTo: 9, Skipped: 8}), updateLine(10))
			return replayPage(1, 0, 0, nil)
		}
		if *r.After != 1 {
			t.Errorf("asked %s", r.Append(nil))
		}
		return replayPage(7, 9, 9, func(h *wire.PageHead) { h.Evicted, h.EvictedExact = 5, rounds < 2 })
	})
	words, err := story(t, f, Query{}, until("10"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, words, "caught 1 7 8 9 gap5false caught 10")
}

// Updates that the disk refused have no number, and come as they come.
func TestFollowUnkept(t *testing.T) {
	var f *fakeBroker
	f = newFake(t, func(*wire.Request) [][]byte {
		f.awaitSubscribed(2)
		f.publish(heartbeatLine(wire.Heartbeat{Seq: 1}), updateLine(0), updateLine(2))
		return replayPage(1, 1, 1, nil)
	})
	words, err := story(t, f, Query{}, until("2"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, words, "1 caught u 2")
}

// By the source's time, what is too old is no answer when it comes live,
// either.
func TestFollowByTS(t *testing.T) {
	var f *fakeBroker
	f = newFake(t, func(r *wire.Request) [][]byte {
		if *r.Since != 5e6 || r.By != wire.ByTS {
			t.Errorf("asked %s", r.Append(nil))
		}
		f.awaitSubscribed(2)
		f.publish(heartbeatLine(wire.Heartbeat{Seq: 2}), updateLine(3), updateLine(5), updateLine(4), updateLine(6))
		return replayPage(1, 0, 2, nil)
	})
	words, err := story(t, f, Query{Since: AtMicros(5e6), ByTS: true}, until("6"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, words, "caught 5 6")
}

// Live updates that wait too long are let go, and come from history instead.
func TestFollowOverflow(t *testing.T) {
	var f *fakeBroker
	rounds := 0
	big := Update{Name: "a", Data: []byte(`"` + strings.Repeat("x", 1<<19) + `"`)}
	const many = 2 * maxHeld >> 19
	f = newFake(t, func(r *wire.Request) [][]byte {
		switch rounds++; rounds {
		case 1:
			f.awaitSubscribed(2)
			f.publish(heartbeatLine(wire.Heartbeat{}))
			for seq := range uint64(many) {
				big.Seq, big.ThingSeq = seq+1, seq+1
				f.publish(wire.AppendUpdate(nil, &big))
			}
			return replayPage(1, 0, 0, nil)
		case 2:
			return replayPage(1, many, many, nil)
		}
		t.Errorf("asked again: %s", r.Append(nil))
		return nil
	})
	var words []string
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := f.client()
	last := uint64(0)
	for e, err := range c.Follow(ctx, Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == CaughtUp {
			words = append(words, "caught")
		} else {
			if e.Update.Seq != last+1 {
				t.Fatalf("%d comes behind %d", e.Update.Seq, last)
			}
			last = e.Update.Seq
		}
		if last == many {
			break
		}
	}
	if rounds != 2 {
		t.Errorf("history was asked %d times, %v", rounds, words)
	}
}

func TestFollowEnds(t *testing.T) {
	f := newFake(t, func(*wire.Request) [][]byte { return replayPage(1, 2, 2, nil) })
	if _, err := story(t, f, Query{}, func(words []string) bool {
		if words[len(words)-1] == "caught" {
			f.cut()
		}
		return false
	}); !errors.Is(err, ErrLost) {
		t.Errorf("without the feed it ends with %v", err)
	}
	e := wire.ErrorFrame{Code: wire.CodeEpochChanged, Message: "start over", Epoch: "e2"}
	f = newFake(t, func(*wire.Request) [][]byte { return [][]byte{e.Append(nil)} })
	_, err := story(t, f, Query{}, func([]string) bool { return false })
	if be := (*BrokerError)(nil); !errors.As(err, &be) || be.Code != CodeEpochChanged {
		t.Errorf("with another history it ends with %v", err)
	}
}

// The hold never has more than its bound, and says what it let go.
func TestHold(t *testing.T) {
	h := newHold()
	for seq := range uint64(10) {
		h.put(held{update: update(seq + 1)}, maxHeld/4)
	}
	item, err := h.take(t.Context())
	if err != nil || !item.dropped {
		t.Fatalf("first is %+v, %v", item, err)
	}
	var seqs []uint64
	for {
		next, ok := h.peek()
		if !ok {
			break
		}
		item, err := h.take(t.Context())
		if err != nil || item.update.Seq != next.update.Seq {
			t.Fatalf("took %+v, %v where %+v was next", item, err, next)
		}
		seqs = append(seqs, item.update.Seq)
	}
	if !slices.Equal(seqs, []uint64{9, 10}) {
		t.Errorf("held %v", seqs)
	}
	h.end(ErrLost)
	if _, err := h.take(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("an ended hold gives %v", err)
	}
}
