package adapt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/hooks/auth"

	"tbhist/client"
)

// expectPrefix waits for an update that begins so.
func (tg *target) expectPrefix(want string) {
	tg.t.Helper()
	select {
	case got := <-tg.got:
		if !strings.HasPrefix(got, want) {
			tg.t.Fatalf("got %s\nwant %s", got, want)
		}
	case <-time.After(patience):
		tg.t.Fatalf("nothing comes, not %s", want)
	}
}

// expectAll waits for updates with the data 0 to n-1, some maybe twice.
func (tg *target) expectAll(n int) {
	tg.t.Helper()
	seen := map[string]bool{}
	for late := time.After(patience); len(seen) < n; {
		select {
		case u := <-tg.got:
			_, data, _ := strings.Cut(u, `"data": `)
			data, _, _ = strings.Cut(data, ",")
			if i, err := strconv.Atoi(data); err != nil || i >= n {
				tg.t.Fatalf("got %s", u)
			}
			seen[data] = true
		case <-late:
			tg.t.Fatalf("%d of %d came: %s", len(seen), n, tg.bridge.Summary())
		}
	}
}

func TestMQTT(t *testing.T) {
	b, tg := startMQTT(t, nil, nil), newTarget(t, nil)
	b.retain("old/lamp", `"from before"`)
	way := b.bridge(tg)
	var log logLines
	way.Logger = slog.New(slog.NewTextHandler(&log, nil))
	tg.run(way)
	tg.connected()
	for qos := range byte(3) {
		topic := fmt.Sprintf("zigbee2mqtt/Living Room/0x0%d", qos)
		b.publish(topic, `{"temperature": 21.5}`, qos)
		tg.expectMQTT(fmt.Sprintf("zigbee2mqtt.living-room.n0x0%d", qos), `{"temperature":21.5}`)
	}
	b.publish("a/b", "+7.0", 1)
	tg.expectMQTT("a.b", `7.0`)
	b.publish("a/B", "ON", 1)
	tg.expectMQTT("a.b", `"ON"`)
	b.publish("a/B", "\xff", 0)
	tg.expectMQTT("a.b", `"/w=="`)
	b.publish("a/b", "", 1)
	b.publish("a/"+strings.Repeat("x", 65), "1", 1)
	b.publish("a/b", strings.Repeat("x", maxMessage+1), 1)
	for r, n := range map[Reason]uint64{ReasonRetained: 1, ReasonEmpty: 1, ReasonNS: 1, ReasonTooLarge: 1} {
		tg.skipped(r, n)
	}
	tg.eventually("everything acknowledged", func() bool { return b.unacknowledged("bridge") == 0 })
	if got, want := tg.bridge.Summary(), "10 received, 6 sent, 4 skipped (1 ns, 1 too_large, 1 retained, 1 empty)"; got != want {
		t.Errorf("the summary is %q, want %q", got, want)
	}
	if n := strings.Count(log.String(), "two topics are one Thing"); n != 1 {
		t.Errorf("a collision is reported %d times:\n%s", n, log.String())
	}
}

func TestMQTTRules(t *testing.T) {
	b, tg := startMQTT(t, nil, nil), newTarget(t, nil)
	b.retain("s/old", `{"t": 1, "v": 0, "kind": 1}`)
	way := b.bridge(tg, "s/#", "$SYS/test/+")
	way.Strip, way.Retained = 1, true
	way.Rules = Rules{TSKey: "t", Filters: []Filter{{"kind", "1"}}, Projections: []string{"v"}}
	tg.run(way)
	tg.expect("old", `{"v":0}`, "1.0", "null")
	b.publish("s/a", `{"t": 5, "v": 1, "kind": 1}`, 1)
	tg.expect("a", `{"v":1}`, "5.0", "null")
	b.publish("$SYS/test/x", `{"t": 6, "v": 1, "kind": 1}`, 1)
	tg.expect("test.x", `{"v":1}`, "6.0", "null")
	b.publish("s/a", `{"t": 5, "v": 1, "kind": 2}`, 1)
	b.publish("s/a", `7`, 1)
	b.publish("s/a", `{"v": 7, "kind": 1}`, 1)
	b.publish("s/a", `{"t": 1700000000000, "v": 7, "kind": 1}`, 1)
	for _, r := range []Reason{ReasonFilter, ReasonNotObject, ReasonKey, ReasonTS} {
		tg.skipped(r, 1)
	}
}

// What the MQTT broker keeps while the bridge is away comes when it is back,
// and what comes while tbhist is away is not acknowledged: the next bridge
// gets it.
func TestMQTTRestart(t *testing.T) {
	b := startMQTT(t, nil, nil)
	nowhere := newTargetAway(t)
	stop := nowhere.runUntil(b.bridge(nowhere))
	nowhere.connected()
	for i := range 5 {
		b.publish("a", fmt.Sprint(i), 1)
	}
	nowhere.eventually("5 received", func() bool { return nowhere.bridge.Sample().Received == 5 })
	stop()
	if n := b.unacknowledged("bridge"); n != 5 {
		t.Fatalf("%d of 5 are not acknowledged", n)
	}
	for i := range 5 {
		b.publish("a", fmt.Sprint(5+i), 2)
	}
	tg := newTarget(t, nil)
	stop = tg.runUntil(b.bridge(tg))
	tg.expectAll(10)
	tg.connected() // a connection that has not begun yet is cut off by the end
	// The end acknowledges what was sent, so that nothing comes twice.
	stop()
	if n := b.unacknowledged("bridge"); n != 0 {
		t.Errorf("%d are not acknowledged at the end", n)
	}
	stop = tg.runUntil(b.bridge(tg))
	tg.connected()
	b.publish("a", `"last"`, 1)
	tg.expectMQTT("a", `"last"`)
	stop()
}

// A connection that breaks while messages wait brings them once more: they
// are known, and come once.
func TestMQTTCut(t *testing.T) {
	b, tg := startMQTT(t, nil, nil), newTarget(t, nil)
	tg.run(b.bridge(tg))
	tg.connected()
	for round := range 3 {
		for i := range 50 {
			b.publish("a", fmt.Sprint(round*50+i), 1)
		}
		cut := b.cut("bridge")
		// This MQTT broker forgets what is published while it hands a session
		// over.
		tg.eventually("the session taken over", func() bool {
			now, ok := b.server.Clients.Get("bridge")
			return ok && now != cut && tg.bridge.Sample().Sources == 1
		})
	}
	tg.expectAll(150)
	tg.eventually("everything acknowledged", func() bool { return b.unacknowledged("bridge") == 0 })
}

// What finds no room stays with the MQTT broker, and comes later.
func TestMQTTFull(t *testing.T) {
	b, tg := startMQTT(t, nil, nil), newTarget(t, nil)
	way := b.bridge(tg)
	way.Queue = 10
	stop := tg.runUntil(way)
	tg.connected()
	stop()
	for i := range 100 {
		b.publish("a", fmt.Sprint(i), 1)
	}
	tg.run(way)
	tg.expectAll(100)
	tg.eventually("everything acknowledged", func() bool { return b.unacknowledged("bridge") == 0 })
}

// A restart that loses the session is no more than that: it subscribes again.
func TestMQTTBrokerRestart(t *testing.T) {
	b, tg := startMQTT(t, nil, nil), newTarget(t, nil)
	tg.run(b.bridge(tg))
	tg.connected()
	b.publish("a", "1", 1)
	tg.expectMQTT("a", "1")
	b.stop()
	tg.eventually("disconnected", func() bool { return tg.bridge.Sample().Sources == 0 })
	b.start()
	tg.connected()
	b.publish("a", "2", 0)
	tg.expectMQTT("a", "2")
}

// A bridge that starts before its MQTT broker waits for it.
func TestMQTTLateBroker(t *testing.T) {
	b, tg := startMQTT(t, nil, nil), newTarget(t, nil)
	b.stop()
	var log logLines
	way := b.bridge(tg)
	way.Logger = slog.New(slog.NewTextHandler(&log, nil))
	tg.run(way)
	tg.eventually("said", func() bool { return strings.Contains(log.String(), "not connected to the source") })
	b.start()
	tg.connected()
	b.publish("a", "1", 1)
	tg.expectMQTT("a", "1")
}

func TestMQTTRefused(t *testing.T) {
	b := startMQTT(t, nil, &auth.Ledger{
		Auth: auth.AuthRules{{Username: "ha", Password: "right", Allow: true}, {Allow: false}},
		ACL:  auth.ACLRules{{Username: "ha", Filters: auth.Filters{"open/#": auth.ReadWrite, "secret/#": auth.Deny}}},
	})
	for name, c := range map[string]struct {
		user, password string
		topic          string
		want           string
	}{
		"nobody":         {want: "wants a user and a password: set TBHIST_MQTT_USER", topic: "open/#"},
		"wrong password": {user: "ha", password: "wrong", want: `refuses the user "ha" or the password`, topic: "open/#"},
		"wrong topic":    {user: "ha", password: "right", want: `does not let the user "ha" read secret/#`, topic: "secret/#"},
	} {
		t.Run(name, func(t *testing.T) {
			way := b.bridge(newTarget(t, nil), c.topic)
			way.User, way.Password = c.user, c.password
			err := way.Run(t.Context())
			refused := (*MQTTRefusedError)(nil)
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "wrong") {
				t.Errorf("it ends with %v", err)
			}
		})
	}
	tg := newTarget(t, nil)
	way := b.bridge(tg, "open/#")
	way.User, way.Password = "ha", "right"
	tg.run(way)
	tg.connected()
	b.publish("open/a", "1", 1)
	tg.expectMQTT("open.a", "1")
}

func TestMQTTTLS(t *testing.T) {
	cert, authority := certificates(t)
	b := startMQTT(t, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority}, nil)
	tg := newTarget(t, nil)

	// An unknown authority keeps it away; it tries on, as a clock may be wrong.
	var log logLines
	distrusting := newTarget(t, nil)
	way := b.bridge(distrusting)
	way.TLS, way.Logger = &tls.Config{ServerName: "127.0.0.1"}, slog.New(slog.NewTextHandler(&log, nil))
	stop := distrusting.runUntil(way)
	distrusting.eventually("said", func() bool { return strings.Contains(log.String(), "certificate signed by unknown authority") })
	stop()

	way = b.bridge(tg)
	way.TLS = &tls.Config{ServerName: "127.0.0.1", RootCAs: authority, Certificates: []tls.Certificate{cert}}
	tg.run(way)
	tg.connected()
	b.publish("a", "1", 1)
	tg.expectMQTT("a", "1")
}

// newTargetAway is a broker that does not answer.
func newTargetAway(t *testing.T) *target {
	t.Helper()
	ports := openPorts(t)
	addr := ports[0].Addr().String()
	for _, ln := range ports {
		deaden(t, ln)
	}
	tg := &target{t: t}
	host, port := cutPort(t, addr)
	var err error
	if tg.client, err = client.New(client.Options{Broker: fmt.Sprintf("%s:%d", host, port-client.InputOffset)}); err != nil {
		t.Fatal(err)
	}
	if tg.out, err = tg.client.NewAdaptor(client.AdaptorOptions{}); err != nil {
		t.Fatal(err)
	}
	tg.bridge = NewBridge(tg.out, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		ended, cancel := contextEnded()
		defer cancel()
		_ = tg.out.Close(ended) // nobody listens
	})
	return tg
}
