package client

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tbhist/internal/wire"
)

func TestEncode(t *testing.T) {
	ts := 5.0
	m := Message{Name: "shop.door", Data: []byte(`{"open": true}`), TS: &ts, Doc: []byte(`"http://x"`)}
	frame, err := m.Encode()
	want := `{"type": "thing_update", "ns": "shop.door", "documentation_url": "http://x", "data": {"open": true}, "ts": 5.0}`
	if err != nil || string(frame) != want {
		t.Errorf("got %s, %v\nwant %s", frame, err, want)
	}
	frame, err = (&Message{Data: []byte("null")}).Encode()
	if want = `{"type": "thing_update", "ns": "", "documentation_url": null, "data": null, "ts": null}`; err != nil || string(frame) != want {
		t.Errorf("got %s, %v\nwant %s", frame, err, want)
	}
	far := 1e12
	for name, m := range map[string]Message{
		"name":         {Name: "Shop", Data: []byte("1")},
		"no data":      {Name: "shop"},
		"no JSON":      {Name: "shop", Data: []byte("x")},
		"two values":   {Name: "shop", Data: []byte(`1, "ns": "other"`)},
		"doc":          {Name: "shop", Data: []byte("1"), Doc: []byte("http")},
		"time":         {Name: "shop", Data: []byte("1"), TS: &far},
		"not UTF-8":    {Name: "shop", Data: []byte("\"\xff\"")},
		"deep":         {Name: "shop", Data: []byte(strings.Repeat("[", 600) + strings.Repeat("]", 600))},
		"long numbers": {Name: "shop", Data: []byte(strings.Repeat("1", 2000))},
	} {
		_, err := m.Encode()
		if invalid := (*InvalidError)(nil); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func refusedPage(all ...wire.Refused) [][]byte {
	h := wire.PageHead{Type: wire.TypeRefusedPage, Count: uint64(len(all))}
	var body []byte
	for i := range all {
		body = append(all[i].Append(body), '\n')
	}
	return [][]byte{h.Append(nil), body}
}

// The own update is found among others.
func TestSend(t *testing.T) {
	f := newFake(t, func(*wire.Request) [][]byte { return refusedPage() })
	go func() {
		frame := <-f.input
		d := wire.Draft{}
		if _, err := wire.NewDecoder(wire.Limits{}).JSON(nil, frame, &d); err != nil {
			t.Error(err)
		}
		mine := Update{Name: "shop.door", Data: d.Data, TS: 9, Seq: 7, ThingSeq: 3}
		f.publish(updateLine(5), wire.AppendUpdate(nil, &mine))
	}()
	u, err := f.client().Send(t.Context(), Message{Name: "shop.door", Data: []byte(`{"a": 1}`)})
	if err != nil || u.Seq != 7 || u.ThingSeq != 3 {
		t.Errorf("got %+v, %v", u, err)
	}
}

// A refusal is told at once, with its reason; an older one is not taken for
// it.
func TestSendRefused(t *testing.T) {
	old := wire.Refused{Time: 1, Source: "127.0.0.1", Transport: "zmq", Reason: "ns", Sample: `{"type": "thing_update", "ns": "shop.door", "d`}
	line := old
	line.Time, line.Reason, line.Taken = 2, "max_things", "fewer"
	asked := 0
	f := newFake(t, func(*wire.Request) [][]byte {
		if asked++; asked == 1 {
			return refusedPage(old)
		}
		return refusedPage(old, line)
	})
	_, err := f.client().Send(t.Context(), Message{Name: "shop.door", Data: []byte("1")})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Refusal.Reason != "max_things" || err.Error() != "the broker refused it (max_things); taken would be fewer" {
		t.Errorf("got %v", err)
	}
}

// An update that was published before the subscription was at work is found
// in history; one that is nowhere was not seen.
func TestSendNotBack(t *testing.T) {
	inHistory := true
	f := newFake(t, func(r *wire.Request) [][]byte {
		switch {
		case r.Type == wire.TypeRefused:
			return refusedPage()
		case inHistory:
			return replayPage(7, 7, 7, nil)
		}
		return replayPage(6, 6, 7, nil)
	})
	c := f.client()
	c.sendWait = time.Millisecond
	u, err := c.Send(t.Context(), Message{Name: "shop.door", Data: []byte("7")})
	if err != nil || u.Seq != 7 {
		t.Errorf("got %+v, %v", u, err)
	}
	inHistory = false
	if _, err = c.Send(t.Context(), Message{Name: "shop.door", Data: []byte("7")}); !errors.Is(err, ErrNotSeen) {
		t.Errorf("got %v", err)
	}
}

func TestNewRefusal(t *testing.T) {
	frame := []byte(`{"type": "thing_update", "ns": "a", "data": 1}`)
	r := func(reason, sample string, suppressed uint64) Refusal {
		return Refusal{Transport: "zmq", Reason: reason, Sample: sample, Suppressed: suppressed}
	}
	mine, other := `{"type": "thing_update", "ns": "a", "d`, `{"type": "thing_update", "ns": "ab", "d`
	before := []Refusal{r("ns", mine, 0), r("max_things", other, 1)}
	if got := newRefusal(before, before, frame); got != nil {
		t.Errorf("nothing new: %+v", got)
	}
	if got := newRefusal(before, append(before, r("ts_type", other, 0), r("ext", mine, 0)), frame); got == nil || got.Reason != "ext" {
		t.Errorf("a line of its own: %+v", got)
	}
	// Not listed by itself, but counted with another's.
	if got := newRefusal(before, []Refusal{before[0], r("max_things", other, 2)}, frame); got == nil || got.Reason != "max_things" {
		t.Errorf("suppressed: %+v", got)
	}
}
