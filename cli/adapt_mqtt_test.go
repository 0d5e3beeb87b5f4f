package cli

import (
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/rogpeppe/go-internal/testscript"
)

// scriptMQTT starts an MQTT broker that knows one user.
func scriptMQTT(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mqtt NAME USER:PASSWORD")
	}
	user, password, _ := strings.Cut(args[1], ":")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	ts.Check(server.AddHook(new(auth.Hook), &auth.Options{Ledger: &auth.Ledger{Auth: auth.AuthRules{
		{Username: auth.RString(user), Password: auth.RString(password), Allow: true}, {Allow: false},
	}}}))
	ts.Check(server.AddListener(listeners.NewNet("script", ln)))
	ts.Check(server.Serve())
	ts.Defer(func() { _ = server.Close() })
	mqttBrokers(ts)[args[0]] = server
	ts.Setenv(args[0], "tcp://"+ln.Addr().String())
}

func mqttBrokers(ts *testscript.TestScript) map[string]*mochi.Server {
	return ts.Value("mqtt").(map[string]*mochi.Server) //nolint:forcetypeassert // Setup put it there
}

// scriptPublish publishes with QoS 1.
func scriptPublish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: publish NAME TOPIC PAYLOAD")
	}
	ts.Check(mqttBrokers(ts)[args[0]].Publish(args[1], []byte(args[2]), false, 1))
}

// scriptAdapted waits until a client is connected, has subscribed and has
// answered for all that was kept for it meanwhile.
func scriptAdapted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: adapted NAME CLIENT-ID")
	}
	scriptUntil(ts, args[1]+" has subscribed", func() bool {
		c, ok := mqttBrokers(ts)[args[0]].Clients.Get(args[1])
		return ok && !c.Closed() && c.State.Subscriptions.Len() > 0 && c.State.Inflight.Len() == 0
	})
}

// scriptKept waits until the broker has kept so many updates.
func scriptKept(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kept COUNT")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	scriptUntil(ts, args[0]+" updates are kept", func() bool {
		ts.Check(ts.Exec("tbhist", "replay", "--format", "json"))
		return strings.Count(ts.ReadFile("stdout"), "\n") >= want
	})
}

func scriptUntil(ts *testscript.TestScript, what string, holds func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			ts.Fatalf("not within %v: %s", patience, what)
		}
	}
}
