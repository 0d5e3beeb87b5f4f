package adapt

import (
	"strings"
	"testing"

	"tbhist/thing"
)

func TestNameOf(t *testing.T) {
	long := strings.Repeat("x", 64)
	for _, c := range []struct {
		topic string
		strip int
		want  thing.Name
	}{
		{"zigbee2mqtt/Living Room/0x01", 0, "zigbee2mqtt.living-room.n0x01"},
		{"tele/tasmota_8E1F2A/SENSOR", 0, "tele.tasmota_8e1f2a.sensor"},
		{"/a//b/", 0, "a.b"},
		{"a.b/c", 0, "a-b.c"},
		{"Küche/Wärme", 0, "k-che.w-rme"},
		{"ä", 0, "n-"},
		{"_x/-y", 0, "n_x.n-y"},
		{"$SYS/broker/uptime", 0, "n-sys.broker.uptime"},
		{"bad\xff", 0, "bad-"},
		{"a/b/c", 1, "b.c"},
		{"/a/b/c", 1, "b.c"},
		{"a/b", 2, ""},
		{long + "/A", 0, thing.Name(long + ".a")},
	} {
		name, skipped := nameOf(c.topic, c.strip, "home")
		if skipped != nil || name != c.want || !thing.ValidName(name) {
			t.Errorf("%q: %q, %v; want %q", c.topic, name, skipped, c.want)
		}
	}
	almost := strings.Repeat(strings.Repeat("x", 61)+"/", 16) + strings.Repeat("x", 30) // 1022
	if name, skipped := nameOf(almost, 0, "h"); skipped != nil || len(name)+2 != thing.MaxNameBytes {
		t.Errorf("%d bytes: %v", len(name), skipped)
	}
	for _, c := range []struct {
		topic string
		strip int
	}{
		{"a", 2},
		{"/", 1},
		{long + "x", 0},
		{"0" + long[1:] + "/" + "0" + long[1:], 0}, // n makes it 65
		{almost + "y", 0},
	} {
		if name, skipped := nameOf(c.topic, c.strip, "h"); skipped == nil || skipped.Reason != ReasonNS {
			t.Errorf("%.40q without %d: %q, %v", c.topic, c.strip, name, skipped)
		}
	}
}

func TestTopicMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"#", "a/b", true},
		{"#", "$SYS/a", false},
		{"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/a", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "ab", false},
		{"a/+", "a/b", true},
		{"a/+", "a", false},
		{"a/+", "a/b/c", false},
		{"+/+", "/a", true},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a/b/d", false},
		{"a", "a", true},
		{"a", "a/b", false},
		{"$share/group/a/#", "a/b", true},
	} {
		if got := matches(c.filter, c.topic); got != c.want {
			t.Errorf("%q asks for %q: %v", c.filter, c.topic, got)
		}
	}
}

func TestCheckTopic(t *testing.T) {
	for _, filter := range []string{"#", "+", "a/#", "a/+/b", "/", "$SYS/#", "$share/g/a/#", "a b/ü"} {
		if err := CheckTopic(filter); err != nil {
			t.Errorf("%q: %v", filter, err)
		}
	}
	for _, filter := range []string{"", "a/#/b", "a#", "a/b+", "a/##", "a\x00", "a\xff", strings.Repeat("x", maxTopicFilter+1)} {
		if CheckTopic(filter) == nil {
			t.Errorf("%.20q is taken", filter)
		}
	}
}

func TestMQTTClientID(t *testing.T) {
	id := MQTTClientID("host", "home", []string{"a", "b"})
	if len(id) > 23 || id != MQTTClientID("host", "home", []string{"a", "b"}) {
		t.Errorf("the client id is %q", id)
	}
	for _, other := range []string{
		MQTTClientID("other", "home", []string{"a", "b"}), MQTTClientID("host", "shop", []string{"a", "b"}), MQTTClientID("host", "home", []string{"a"}),
	} {
		if other == id {
			t.Errorf("%q names two", id)
		}
	}
}

func TestCollisions(t *testing.T) {
	var c collisions
	for i, step := range []struct {
		topic string
		other string
	}{{"A", ""}, {"A", ""}, {"a", "A"}, {"a", ""}, {"A", ""}} {
		if other, ok := c.note("a", step.topic); other != step.other || ok != (step.other != "") {
			t.Errorf("%d: %q, %v", i, other, ok)
		}
	}
}
