package cli

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"tbhist/internal/dnstest"
)

// TestScripts runs testdata/script through the program as a process. Beside
// testscript's own commands there are:
//
//	broker NAME [ARG…]        start "tbhist serve ARG…" on free ports, wait
//	                          until it is ready, set $NAME to its URL, and
//	                          TBHIST_BROKER if that is empty
//	halt NAME SIGNAL CODE     end it with INT, TERM or KILL; expect the code
//	logged NAME PATTERN       wait for a line in its log
//	exits CODE COMMAND ARG…   run the command and expect the exit code
//	dns [failing] [RECORD…]   start a name server with these records and set
//	                          TBHIST_DNS to it, or give it other records
//	mqtt NAME USER:PASSWORD   start an MQTT broker and set $NAME to its URL
//	publish NAME TOPIC DATA   publish there with QoS 1
//	adapted NAME CLIENT-ID    wait until a client has subscribed there, and
//	                          taken what was kept for it
//	kept COUNT                wait until the broker has kept so many updates
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Values["brokers"] = map[string]*serveProcess{}
			e.Values["dns"] = map[string]*dnstest.Server{}
			e.Values["mqtt"] = map[string]*mochi.Server{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"broker": scriptBroker,
			"halt":   scriptHalt,
			"logged": scriptLogged,
			"exits":  scriptExits,
			"dns":    scriptDNS,

			"mqtt":    scriptMQTT,
			"publish": scriptPublish,
			"adapted": scriptAdapted,
			"kept":    scriptKept,
		},
	})
}

func brokers(ts *testscript.TestScript) map[string]*serveProcess {
	return ts.Value("brokers").(map[string]*serveProcess) //nolint:forcetypeassert // Setup put it there
}

func scriptBroker(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: broker NAME [ARG…]")
	}
	env := []string{"HOME=/no-home", "TZ=UTC"}
	for _, name := range []string{"PATH", "TMPDIR", "TBHIST_KEEP", "TBHIST_RING", "STATE_DIRECTORY", "GOCOVERDIR"} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	s, err := startServe(ts.MkAbs("."), env, args[1:]...)
	ts.Check(err)
	brokers(ts)[args[0]] = s
	ts.Setenv(args[0], s.broker)
	ts.Setenv(args[0]+"_PORT", strconv.Itoa(s.port))
	if ts.Getenv("TBHIST_BROKER") == "" {
		ts.Setenv("TBHIST_BROKER", s.broker)
	}
	ts.Defer(s.release)
}

func scriptHalt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: halt NAME SIGNAL CODE")
	}
	signals := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	s := brokers(ts)[args[0]]
	code, err := s.end(signals[args[1]])
	ts.Check(err)
	if strconv.Itoa(code) != args[2] {
		ts.Fatalf("%s ended with %d, want %s:\n%s", args[0], code, args[2], s.log())
	}
}

func scriptLogged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logged NAME PATTERN")
	}
	_, err := brokers(ts)[args[0]].await(args[1])
	ts.Check(err)
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s ended with %d, want %s", strings.Join(args[1:], " "), code, args[0])
	}
}
