package client

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// recorded is one case of client.jsonl: what the original client did with
// some frames.
type recorded struct {
	Name      string     `json:"name"`
	Frames    [][][]byte `json:"frames_b64"`
	Listeners []struct {
		NS    thing.Name `json:"ns"`
		Flags int        `json:"flags"` // 1 snapshots, 2 tree
	} `json:"listeners"`
	Events []recordedEvent              `json:"events"`
	Things map[thing.Name]recordedThing `json:"things"`
}

type recordedEvent struct {
	Listener int             `json:"listener"`
	Thing    thing.Name      `json:"thing"`
	TS       float64         `json:"ts"`
	Data     json.RawMessage `json:"data"`
	Flags    int             `json:"flags"` // 1 from a snapshot
}

type recordedThing struct {
	Data    json.RawMessage `json:"data"`
	TS      *float64        `json:"ts"`
	Doc     json.RawMessage `json:"documentation_url"`
	HasData bool            `json:"has_data"`
}

// The recorded cases, over a connection.
func TestClientConformance(t *testing.T) {
	file, err := os.Open("testdata/client.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines, cases := bufio.NewScanner(file), 0
	for lines.Buffer(nil, 1<<20); lines.Scan(); cases++ {
		var c recorded
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, c.run)
	}
	if lines.Err() != nil || cases < 19 {
		t.Errorf("%d cases, %v", cases, lines.Err())
	}
}

func (c *recorded) run(t *testing.T) {
	f := newFake(t, nil)
	d := f.client().Directory()
	var got []recordedEvent
	for i, l := range c.Listeners {
		var options []SubscribeOption
		if l.Flags&1 != 0 {
			options = append(options, WithSnapshots())
		}
		if l.Flags&2 != 0 {
			options = append(options, WithTree())
		}
		_, err := d.Thing(l.NS).Subscribe(func(e ThingEvent) {
			flags := 0
			if e.Snapshot {
				flags = 1
			}
			got = append(got, recordedEvent{i, e.Thing.Name(), e.Update.TS, e.Update.Data, flags})
		}, options...)
		if err != nil {
			t.Fatal(err)
		}
	}
	stop := keep(t, d)
	f.awaitSubscribed(3)
	for _, frames := range c.Frames {
		f.publish(frames[0])
	}
	f.publish(heartbeatLine(wire.Heartbeat{Epoch: "end"}))
	awaitState(t, d, func(s *DirectoryState) bool { return s.Epoch == "end" })
	stop()
	if told(got) != told(c.Events) {
		t.Errorf("events:\n%s\nwant:\n%s", told(got), told(c.Events))
	}
	things := map[thing.Name]recordedThing{}
	for e := range d.Root().Walk() {
		var one recordedThing
		one.Data, one.Doc = []byte("null"), []byte("null")
		if latest, ok := e.Latest(); ok {
			one = recordedThing{latest.Update.Data, &latest.Update.TS, orNull(latest.Doc), true}
		}
		things[e.Name()] = one
	}
	if !reflect.DeepEqual(things, c.Things) {
		t.Errorf("things: %s\nwant:   %s", asJSON(t, things), asJSON(t, c.Things))
	}
}

func told(events []recordedEvent) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%d %s %v %s %d\n", e.Listener, e.Thing, e.TS, e.Data, e.Flags)
	}
	return b.String()
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(b)
}
