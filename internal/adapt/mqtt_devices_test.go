package adapt

import (
	"os"
	"strings"
	"testing"
	"time"
)

// What docs/MQTT.md says of devices is what happens.
func TestMQTTDevices(t *testing.T) {
	doc, err := os.ReadFile("../../docs/MQTT.md")
	if err != nil {
		t.Fatal(err)
	}
	way := &MQTT{Topics: []string{"#"}, Base: "home"}
	published, n := "", 0
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		want, ok := strings.CutPrefix(line, "→ ")
		if !ok {
			published = line
			continue
		}
		n++
		topic, payload, _ := strings.Cut(published, "  ")
		update, skipped := way.update(&arrival{topic: topic, payload: []byte(payload), at: time.Now()})
		if skipped != nil {
			t.Errorf("%s: %v", topic, skipped)
			continue
		}
		if got := "home." + string(update.Name) + "  " + string(update.Data); got != want {
			t.Errorf("%s makes\n%s, and docs/MQTT.md says\n%s", published, got, want)
		}
	}
	if n < 16 {
		t.Errorf("docs/MQTT.md has %d examples", n)
	}
}
