package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// story runs a Follow and tells its events as words: the seq of an update,
// "u" for one that was not kept, "gap N", "caught". It ends the Follow when
// end says so.
func story(t *testing.T, c *Client, q Query, end func(words []string) bool, options ...FollowOption) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var words []string
	for e, err := range c.Follow(ctx, q, options...) {
		if err != nil {
			return words, err
		}
		word := ""
		switch e.Kind {
		case Updated:
			if word = "u"; e.Update.Seq > 0 {
				word = fmt.Sprint(e.Update.Seq)
			}
		case Gap:
			word = fmt.Sprintf("gap%d%v", e.Missing, e.MissingExact)
		case CaughtUp:
			word = "caught"
		case Disconnected:
			if word = "down"; e.Err == nil {
				t.Error("disconnected for no reason")
			}
		case Reconnected:
			word = "up"
		case NewEpoch:
			word = "new:" + e.Epoch
		}
		if words = append(words, word); end(words) {
			return words, nil
		}
	}
	return words, errors.New("it ended without an error")
}

func until(last string) func([]string) bool {
	return func(words []string) bool { return words[len(words)-1] == last }
}

// expect runs a story to the last of the words that are wanted.
func expect(t *testing.T, f *fakeBroker, q Query, want string) {
	t.Helper()
	all := strings.Fields(want)
	n := 0
	words, err := story(t, f.client(), q, func([]string) bool { n++; return n == len(all) })
	if got := strings.Join(words, " "); err != nil || got != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

// tell sends messages on the n-th connection to the feed, from 1, as soon as
// it has subscribed.
func (f *fakeBroker) tell(n int, msgs ...[]byte) {
	f.awaitSubscribed(2 * n)
	f.mu.Lock()
	c := f.feeds[n-1]
	f.mu.Unlock()
	for _, m := range msgs {
		if c.Write(zmtp.AppendFrame(nil, m, false)) != nil {
			return // the client has gone
		}
	}
	_ = c.Flush() // likewise
}

// cutIn ends the n-th connection in the middle of a message.
func (f *fakeBroker) cutIn(n int, msg []byte) {
	f.awaitSubscribed(2 * n)
	f.mu.Lock()
	c := f.feeds[n-1]
	f.mu.Unlock()
	framed := zmtp.AppendFrame(nil, msg, false)
	_ = c.Write(framed[:len(framed)/2]) // the client may have gone
	_ = c.Flush()
	_ = c.Close()
}

// answers makes a fake whose n-th answer is that of the n-th function; there
// must be no more questions.
func answers(t *testing.T, each ...func(f *fakeBroker, r *wire.Request) [][]byte) *fakeBroker {
	t.Helper()
	var f *fakeBroker
	n := 0
	f = newFake(t, func(r *wire.Request) [][]byte {
		if n++; n > len(each) {
			t.Errorf("asked again: %s", r.Append(nil))
			return nil
		}
		return each[n-1](f, r)
	})
	return f
}

func beat(seq uint64) []byte { return heartbeatLine(wire.Heartbeat{Seq: seq}) }

// What comes during the replay is held and handed on once.
func TestFollowHandOver(t *testing.T) {
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte { // 3 and 4 are live and in history
		f.tell(1, updateLine(3), updateLine(4), beat(4), updateLine(5))
		return replayPage(1, 4, 4, nil)
	})
	go f.tell(1, updateLine(2), beat(2))
	expect(t, f, Query{}, "1 2 3 4 caught 5")
	if got := f.awaitSubscribed(2); !slices.Equal(got, []string{wire.UpdatePrefix, wire.HeartbeatPrefix}) {
		t.Errorf("subscribed to %q", got)
	}
}

// What the broker skipped is asked of history; what that has no more is a
// gap, exact where it is known where the Thing stood.
func TestFollowSkipped(t *testing.T) {
	for _, c := range []struct {
		q    Query
		want string
	}{
		{Query{}, "caught 1 gap5true 7 8 9 caught 10"},
		{Query{Name: "shop"}, "caught 1 gap5true 7 8 9 caught 10"},
	} {
		f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
			f.tell(1, updateLine(1), heartbeatLine(wire.Heartbeat{Seq: 9, SkippedFrom: 2, SkippedTo: 9, Skipped: 8}), updateLine(10))
			return replayPage(1, 0, 0, nil)
		}, func(f *fakeBroker, r *wire.Request) [][]byte {
			if *r.After != 1 || r.Epoch != "e1" {
				t.Errorf("asked %s", r.Append(nil))
			}
			return replayPage(7, 9, 9, func(h *wire.PageHead) { h.Evicted, h.EvictedExact = 70, false })
		})
		go f.tell(1, beat(0))
		expect(t, f, c.q, c.want)
	}
}

// Where it is not known where a Thing stood, what is missing before it has a
// bound only: the broker's, or its number.
func TestFollowGapBounds(t *testing.T) {
	for evicted, want := range map[uint64]string{
		0:  "5 caught 6",
		3:  "5 gap3false caught 6",
		70: "5 gap4false caught 6",
	} {
		f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
			f.tell(1, updateLine(6))
			return replayPage(5, 5, 5, func(h *wire.PageHead) { h.Evicted, h.EvictedExact = evicted, evicted == 0 })
		})
		go f.tell(1, beat(5))
		expect(t, f, Query{Name: "shop", After: 2}, want)
	}
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
		f.tell(1, updateLine(6))
		return replayPage(5, 5, 5, func(h *wire.PageHead) { h.Evicted = 2 })
	})
	go f.tell(1, beat(5))
	expect(t, f, Query{After: 2}, "5 gap2true caught 6")
}

// A jump of ThingSeq shows that something did not come: history is asked.
// A Thing that begins at 1 again was forgotten, and that is no jump.
func TestFollowJump(t *testing.T) {
	other := Update{Name: "shop.till", Data: []byte("1"), Seq: 6, ThingSeq: 1}
	again := update(7)
	again.ThingSeq = 1
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
		f.tell(1, updateLine(2), updateLine(4))
		return replayPage(1, 1, 1, nil)
	}, func(f *fakeBroker, r *wire.Request) [][]byte {
		if *r.After != 2 {
			t.Errorf("asked %s", r.Append(nil))
		}
		f.tell(1, updateLine(5), wire.AppendUpdate(nil, &other), wire.AppendUpdate(nil, &again))
		return replayPage(3, 4, 4, nil)
	})
	go f.tell(1, beat(1))
	expect(t, f, Query{Name: "shop"}, "1 caught 2 3 4 caught 5 6 7")
}

// What a heartbeat calls skipped and history does not have, the disk had
// refused.
func TestFollowSkippedUnkept(t *testing.T) {
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
		f.tell(1, updateLine(0), updateLine(1), heartbeatLine(wire.Heartbeat{Seq: 4, SkippedFrom: 2, SkippedTo: 4, Skipped: 5}))
		return replayPage(1, 0, 0, nil)
	}, func(*fakeBroker, *wire.Request) [][]byte {
		return replayPage(2, 4, 4, nil)
	})
	go f.tell(1, beat(0))
	expect(t, f, Query{Name: "shop"}, "caught u 1 2 3 4 gap2false caught")
}

// What was evicted on its way to a subscriber that is behind is told by a
// heartbeat only when it has gone past it.
func TestFollowSkippedBehind(t *testing.T) {
	other := Update{Name: "shop.till", Data: []byte("1"), Seq: 9, ThingSeq: 7}
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
		f.tell(1, wire.AppendUpdate(nil, &other), heartbeatLine(wire.Heartbeat{Seq: 9, SkippedFrom: 6, SkippedTo: 9, Skipped: 3}),
			heartbeatLine(wire.Heartbeat{Seq: 9, SkippedFrom: 1, SkippedTo: 4, Skipped: 3}), beat(12), updateLine(13))
		return replayPage(1, 0, 5, nil)
	})
	go f.tell(1, beat(5))
	expect(t, f, Query{Name: "shop", After: 5}, "caught 9 gap3false 13")
}

// By the source's time, what is too old is no answer when it comes live,
// either, and holes in the numbers say nothing.
func TestFollowByTS(t *testing.T) {
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
		if *r.Since != 5e6 || r.By != wire.ByTS {
			t.Errorf("asked %s", r.Append(nil))
		}
		late := update(5)
		late.Seq, late.ThingSeq = 4, 4
		old := update(3)
		old.Seq, old.ThingSeq = 6, 6
		f.tell(1, updateLine(3), wire.AppendUpdate(nil, &late), updateLine(5), wire.AppendUpdate(nil, &old), updateLine(7))
		return replayPage(1, 0, 2, nil)
	})
	go f.tell(1, beat(2))
	expect(t, f, Query{Since: AtMicros(5e6), ByTS: true}, "caught 4 5 7")
}

// Live updates that wait too long are let go, and come from history instead;
// those that history cannot have are counted.
func TestFollowOverflow(t *testing.T) {
	big := Update{Name: "shop.door", Data: []byte(`"` + strings.Repeat("x", 1<<19) + `"`)}
	const many = 2 * maxHeld >> 19
	resumed := make(chan struct{})
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
		for seq := range uint64(many) {
			big.Seq, big.ThingSeq = seq+1, seq+1
			f.tell(1, wire.AppendUpdate(nil, &big))
		}
		f.tell(1, updateLine(0), updateLine(0), beat(many))
		close(resumed)
		return replayPage(1, 0, 0, nil)
	}, func(f *fakeBroker, r *wire.Request) [][]byte {
		<-resumed
		f.tell(1, updateLine(many+1))
		return replayPage(1, many, many, nil)
	})
	go f.tell(1, beat(0))
	// What was held is handed out or let go, as it happens; the numbers are
	// what counts.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	late := time.AfterFunc(patience, cancel) // for each event
	defer late.Stop()
	last, unkept := uint64(0), uint64(0)
	for e, err := range f.client().Follow(ctx, Query{}) {
		late.Reset(patience)
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Kind == Gap && e.MissingExact:
			unkept += e.Missing
		case e.Kind == Updated && !e.Update.Kept():
			unkept++
		case e.Kind == Updated && e.Update.Seq != last+1:
			t.Fatalf("%d comes behind %d", e.Update.Seq, last)
		case e.Kind == Updated:
			last = e.Update.Seq
		}
		if last == many+1 {
			break
		}
	}
	if unkept != 2 {
		t.Errorf("%d updates that were not kept came or were counted, not 2", unkept)
	}
}

// A connection that is cut in the middle of a message is made again; what
// came meanwhile is read from history.
func TestFollowReconnects(t *testing.T) {
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
		f.tell(1, updateLine(3))
		f.cutIn(1, updateLine(4))
		return replayPage(1, 2, 2, nil)
	}, func(f *fakeBroker, r *wire.Request) [][]byte {
		if *r.After != 3 || r.Epoch != "e1" || r.Name() != "shop" {
			t.Errorf("asked %s", r.Append(nil))
		}
		f.tell(2, updateLine(5), updateLine(6))
		return replayPage(4, 5, 5, nil)
	})
	go func() {
		f.tell(1, beat(2))
		f.tell(2, beat(4))
	}()
	expect(t, f, Query{Name: "shop"}, "1 2 caught 3 down up 4 5 caught 6")
}

// Another history begins from its first update.
func TestFollowNewEpoch(t *testing.T) {
	e2 := func(h *wire.PageHead) { h.Epoch = "e2" }
	for name, c := range map[string]struct {
		q    Query
		want string
	}{
		"on the way": {Query{Name: "shop", After: 1, Last: 9}, "2 caught 3 down up new:e2 1 2 caught 3"},
		"before":     {Query{Name: "shop", After: 7, Epoch: "e0"}, "new:e1 2 caught 3 down up new:e2 1 2 caught 3"},
	} {
		f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
			f.tell(1, updateLine(3))
			f.cutIn(1, updateLine(4))
			h := replayPage(2, 2, 2, nil)
			return h
		}, func(f *fakeBroker, r *wire.Request) [][]byte {
			if r.After != nil || r.Last != nil || r.Epoch != "e2" {
				t.Errorf("%s: asked %s", name, r.Append(nil))
			}
			f.tell(2, updateLine(3))
			return replayPage(1, 2, 2, e2)
		})
		go func() {
			f.tell(1, beat(2))
			f.tell(2, heartbeatLine(wire.Heartbeat{Seq: 2, Epoch: "e2"}))
		}()
		if name == "before" { // Things not seen yet stand at 0 there
			c.want = strings.Replace(c.want, "new:e1 2", "new:e1 gap1true 2", 1)
		}
		t.Run(name, func(t *testing.T) { expect(t, f, c.q, c.want) })
	}
}

// A history that ends before what it had is an older copy, and another
// history for all that follows.
func TestFollowOlderCopy(t *testing.T) {
	f := answers(t, func(f *fakeBroker, r *wire.Request) [][]byte {
		f.cutIn(1, updateLine(4))
		return replayPage(1, 3, 3, nil)
	}, func(*fakeBroker, *wire.Request) [][]byte {
		return replayPage(1, 0, 2, nil)
	}, func(_ *fakeBroker, r *wire.Request) [][]byte {
		if r.After != nil {
			t.Errorf("asked %s", r.Append(nil))
		}
		return replayPage(1, 2, 2, nil)
	})
	go func() {
		f.tell(1, beat(3))
		f.tell(2, beat(2))
	}()
	expect(t, f, Query{}, "1 2 3 caught down up new:e1 1 2 caught")
}

// A connection to the history service that is lost is made again in silence,
// and the answer goes on where it was.
func TestFollowHistoryLost(t *testing.T) {
	f := answers(t, func(_ *fakeBroker, r *wire.Request) [][]byte {
		return replayPage(1, 2, 4, func(h *wire.PageHead) { h.Next = "c1" })
	}, func(_ *fakeBroker, r *wire.Request) [][]byte {
		return [][]byte{} // the connection ends
	}, func(_ *fakeBroker, r *wire.Request) [][]byte {
		if r.Cursor != "c1" {
			t.Errorf("asked %s", r.Append(nil))
		}
		e := wire.ErrorFrame{Code: wire.CodeBusy, Epoch: "e1"}
		return [][]byte{e.Append(nil)}
	}, func(_ *fakeBroker, r *wire.Request) [][]byte {
		e := wire.ErrorFrame{Code: wire.CodeBadRequest, Message: "no such cursor", Epoch: "e1"}
		return [][]byte{e.Append(nil)}
	}, func(_ *fakeBroker, r *wire.Request) [][]byte {
		if r.Cursor != "" || *r.After != 2 {
			t.Errorf("asked %s", r.Append(nil))
		}
		return replayPage(3, 4, 4, nil)
	})
	go f.tell(1, beat(4))
	expect(t, f, Query{}, "1 2 3 4 caught")
}

// Until history has answered, an error ends it; later only one that asking
// again cannot mend does.
func TestFollowEnds(t *testing.T) {
	refused := func(code string) func(*fakeBroker, *wire.Request) [][]byte {
		return func(*fakeBroker, *wire.Request) [][]byte {
			e := wire.ErrorFrame{Code: code, Message: "so is taken", Epoch: "e1"}
			return [][]byte{e.Append(nil)}
		}
	}
	never := func([]string) bool { return false }
	for name, c := range map[string]struct {
		answers []func(*fakeBroker, *wire.Request) [][]byte
		options []FollowOption
	}{
		"at first": {[]func(*fakeBroker, *wire.Request) [][]byte{refused(CodeTooLarge)}, nil},
		"waiting":  {[]func(*fakeBroker, *wire.Request) [][]byte{refused(CodeBadRequest)}, []FollowOption{WaitForBroker()}},
		"later": {[]func(*fakeBroker, *wire.Request) [][]byte{
			func(f *fakeBroker, _ *wire.Request) [][]byte {
				f.tell(1, heartbeatLine(wire.Heartbeat{Seq: 2, SkippedFrom: 2, SkippedTo: 2, Skipped: 1}))
				return replayPage(1, 1, 1, nil)
			}, refused(CodeBadRequest),
		}, nil},
	} {
		f := answers(t, c.answers...)
		go f.tell(1, beat(1))
		_, err := story(t, f.client(), Query{}, never, c.options...)
		if be := (*BrokerError)(nil); !errors.As(err, &be) {
			t.Errorf("%s: it ends with %v", name, err)
		}
	}

	f := answers(t)
	go f.cutIn(1, updateLine(1))
	if _, err := story(t, f.client(), Query{}, never); !errors.Is(err, ErrLost) {
		t.Errorf("a connection lost at first: it ends with %v", err)
	}
}

// A broker that is not there at first is an error, unless it is waited for.
func TestFollowNoBroker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	deaden(t, ln)
	c, err := New(Options{Broker: addr})
	if err != nil {
		t.Fatal(err)
	}
	_, err = story(t, c, Query{}, until("down"))
	if none := (*NoBrokerError)(nil); !errors.As(err, &none) {
		t.Errorf("got %v", err)
	}
	words, err := story(t, c, Query{}, until("down"), WaitForBroker())
	if err != nil || len(words) != 1 {
		t.Errorf("waiting tells %v, %v", words, err)
	}
}

// A Thing's numbers: unknown ones are bounds, holes are counted.
func TestContinuity(t *testing.T) {
	c := newContinuity(false)
	at := func(n thing.Name, seq uint64) *Update { return &Update{Name: n, Seq: 99, ThingSeq: seq} }
	check := func(u *Update, want uint64, wantKnown bool) {
		t.Helper()
		if n, known := c.missing(u); n != want || known != wantKnown {
			t.Errorf("before %d of %q: %d, %v; want %d, %v", u.ThingSeq, u.Name, n, known, want, wantKnown)
		}
		c.step(u)
	}
	check(at("a", 5), 4, false)
	check(at("a", 6), 0, true)
	check(at("a", 9), 2, true)
	check(at("a", 3), 2, true) // forgotten, and begun anew
	check(at("b", 1), 0, false)
	c.forget()
	check(at("a", 4), 3, false)
	c = newContinuity(true)
	check(at("a", 5), 4, true)
}

// The pauses grow, and are never the same for all.
func TestPauses(t *testing.T) {
	now := time.Unix(1, 0)
	p := newPacer()
	for _, span := range []time.Duration{askSoon, 2 * askSoon, 4 * askSoon, askLate, askLate} {
		if pause := p.next(now); p.span != span || pause >= span {
			t.Errorf("a pause of %s out of %s, not %s", pause, p.span, span)
		}
		now = now.Add(time.Second)
	}
	if p.next(now.Add(askCalm)); p.span != askSoon {
		t.Errorf("after a calm time pauses go up to %s", p.span)
	}
}
