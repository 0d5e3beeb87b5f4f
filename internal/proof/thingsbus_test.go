//go:build proof

package proof

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

// thingsbus is a process with adaptors and clients of thingsbus 0.2.1.
type thingsbus struct{ peer }

// known is what a client knows of a Thing.
type known struct {
	Age  float64
	Data json.RawMessage
	Doc  *string
}

func (b thingsbus) get(client, ns string) *known {
	b.t.Helper()
	var k *known
	b.do("get_data", args{"name": client, "ns": ns}, &k)
	return k
}

// awaitData waits until a client has this datum of a Thing.
func (b thingsbus) awaitData(client, ns, data string) {
	b.t.Helper()
	eventually(b.t, client+" has "+data+" of "+ns, func() bool {
		k := b.get(client, ns)
		return k != nil && sameJSON(b.t, k.Data, data)
	})
}

// event is what a listener heard.
type event struct {
	NS       string
	TS       float64
	Data     json.RawMessage
	Snapshot bool
}

func (b thingsbus) heard(client, ns, flags string) []event {
	b.t.Helper()
	var e []event
	b.do("heard", args{"key": client + "/" + ns + "/" + flags}, &e)
	return e
}

// sends has an adaptor send until a client has it: an original adaptor loses
// what it sends before it is connected.
func (b thingsbus) sends(client, adaptor, below, data string) {
	b.t.Helper()
	eventually(b.t, client+" sees what "+adaptor+" sends", func() bool {
		b.do("send", args{"ns": adaptor, "below": below, "data": json.RawMessage(data)}, nil)
		k := b.get(client, adaptor+"."+below)
		return k != nil && sameJSON(b.t, k.Data, data)
	})
}

func sameJSON(t *testing.T, a json.RawMessage, b string) bool {
	t.Helper()
	var va, vb any
	if err := json.Unmarshal(a, &va); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &vb); err != nil {
		t.Fatal(err)
	}
	ja, _ := json.Marshal(va) // it came from there
	jb, _ := json.Marshal(vb)
	return string(ja) == string(jb)
}

// The main job: an original adaptor sends, an original client sees its
// Things; the broker is killed and started again, the client still sees them,
// and history tells what happened.
func TestThingsbus(t *testing.T) {
	b := startBroker(t)
	bus := thingsbus{startPeer(t, "thingsbus_peer.py")}
	bus.do("client", args{"name": "early", "url": b.url(feedPort), "listen": [][2]string{
		{"spacemon.electronics", "none"},
		{"spacemon.electronics", "snapshot"},
		{"spacemon", "none"},
		{"spacemon", "tree"},
		{"", "tree+snapshot"},
	}}, nil)
	bus.do("adaptor", args{"ns": "spacemon", "url": b.url(inputPort)}, nil)

	const first, second = `{"luminance": 106.09383138020833, "ratio_busy": 0.03262867647058824}`, `{"luminance": 107.5, "note": "später"}`
	bus.sends("early", "spacemon", "electronics", first)
	k := bus.get("early", "spacemon.electronics")
	if k.Age < 0 || k.Age > patience.Seconds() {
		t.Errorf("the age is %v s", k.Age)
	}
	if k.Doc == nil || *k.Doc != "http://example.com/spacemon" {
		t.Errorf("the documentation URL is %v", k.Doc)
	}
	if bus.get("early", "spacemon") != nil {
		t.Error("the parent has data, which nobody sent")
	}

	// Old msgpack has only raw strings, new has bin too; both forms of an
	// update; the root.
	now := float64(time.Now().UnixMilli())/1000 + 0.0001 // never whole
	for ns, message := range map[string]any{
		"spacemon.udp-object": map[string]any{"type": "thing_update", "ns": "spacemon.udp-object", "data": []any{1, "ö", nil}, "ts": now},
		"spacemon.udp-list":   []any{"spacemon.udp-list", now, []any{1, "ö", nil}, nil},
		"":                    []any{"", nil, []any{1, "ö", nil}, nil},
	} {
		for _, newType := range []bool{false, true} {
			bus.do("send_udp", args{"port": b.port + inputPort, "message": message, "use_bin_type": newType}, nil)
		}
		bus.awaitData("early", ns, `[1, "ö", null]`)
	}

	killed := time.Now()
	b.kill()
	heard := len(bus.heard("early", "", "tree+snapshot"))
	b.start()
	ready := time.Since(killed)
	bus.do("client", args{"name": "late", "url": b.url(feedPort), "listen": [][2]string{}}, nil)
	bus.awaitData("late", "spacemon.electronics", first)
	seen := time.Since(killed)
	for _, ns := range []string{"spacemon.udp-object", "spacemon.udp-list", ""} {
		bus.awaitData("late", ns, `[1, "ö", null]`)
	}
	// The early client's connection comes back by itself, and the snapshot
	// that it gets is from before the restart.
	eventually(t, "the early client hears a snapshot after the restart", func() bool {
		for _, e := range bus.heard("early", "", "tree+snapshot")[heard:] {
			if e.NS == "spacemon.electronics" && e.Snapshot && sameJSON(t, e.Data, first) {
				return true
			}
		}
		return false
	})

	bus.sends("early", "spacemon", "electronics", second)
	bus.awaitData("late", "spacemon.electronics", second)

	for _, listener := range []struct {
		ns, flags string
		hears     string // the Things and "live" or "any"
	}{
		{"spacemon.electronics", "none", `^spacemon\.electronics live$`},
		{"spacemon.electronics", "snapshot", `^spacemon\.electronics `},
		{"spacemon", "tree", `^spacemon\.\S+ live$`},
		{"", "tree+snapshot", `^`},
	} {
		events := bus.heard("early", listener.ns, listener.flags)
		if len(events) == 0 {
			t.Errorf("the listener on %q with %s heard nothing", listener.ns, listener.flags)
		}
		for _, e := range events {
			what := e.NS + " live"
			if e.Snapshot {
				what = e.NS + " snapshot"
			}
			if !regexp.MustCompile(listener.hears).MatchString(what) {
				t.Errorf("the listener on %q with %s heard %s", listener.ns, listener.flags, what)
			}
		}
	}
	if heard := bus.heard("early", "spacemon", "none"); len(heard) != 0 {
		t.Errorf("the listener on the parent alone heard %v", heard)
	}
	var alive bool
	if bus.do("alive", nil, &alive); !alive {
		t.Error("a client or an adaptor has died")
	}

	replay := strings.Split(strings.TrimSuffix(b.command("replay", "--ns", "spacemon", "--since", "1h"), "\n"), "\n")
	line := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\S+ (spacemon\.[a-z-]+) (.+)$`)
	var told []string // data of electronics, each once
	udp := 0
	for _, l := range replay {
		m := line.FindStringSubmatch(l)
		switch {
		case m == nil:
			t.Errorf("replay prints %q", l)
		case m[1] != "spacemon.electronics":
			udp++
		case len(told) == 0 || told[len(told)-1] != m[2]:
			told = append(told, m[2])
		}
	}
	if len(told) != 2 || !sameJSON(t, json.RawMessage(told[0]), first) || !sameJSON(t, json.RawMessage(told[1]), second) {
		t.Errorf("replay tells of spacemon.electronics: %q", told)
	}
	if udp != 4 {
		t.Errorf("replay has %d updates that came by UDP, not 4", udp)
	}
	measured(t, "thingsbus 0.2.1 as adaptor and client: %d updates replayed; after SIGKILL ready in %d ms, a late client complete in %d ms",
		len(replay), ready.Milliseconds(), seen.Milliseconds())
}
