//go:build proof

package proof

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// adaptor is a running "tbhist adapt".
type adaptor struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *logBuffer
	exited chan struct{}
}

func startAdaptor(t *testing.T, args ...string) *adaptor {
	t.Helper()
	a := &adaptor{t: t, log: &logBuffer{changed: make(chan struct{})}, exited: make(chan struct{})}
	a.cmd = exec.Command(program, append([]string{"adapt"}, args...)...)
	a.cmd.Env, a.cmd.Stderr = cleanEnv(), a.log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.exited)
		_ = a.cmd.Wait() // how is looked at in stop
	}()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill() // it may have ended
		<-a.exited
		if t.Failed() {
			t.Logf("the adaptor's log:\n%s", a.log)
		}
	})
	return a
}

// await waits for a text in its log.
func (a *adaptor) await(text string) {
	a.t.Helper()
	eventually(a.t, "the adaptor says "+text, func() bool { return strings.Contains(a.log.String(), text) })
}

// stop ends it as systemd does, and gives its summary.
func (a *adaptor) stop() string {
	a.t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	select {
	case <-a.exited:
	case <-time.After(patience):
		a.t.Fatalf("not ended by SIGTERM:\n%s", a.log)
	}
	if code := a.cmd.ProcessState.ExitCode(); code != 0 {
		a.t.Errorf("SIGTERM ended the adaptor with %d:\n%s", code, a.log)
	}
	lines := strings.Split(strings.TrimSpace(a.log.String()), "\n")
	return lines[len(lines)-1]
}

// member is an update as replay prints it.
type member struct {
	NS   string
	Data json.RawMessage
	TS   float64
	Doc  *string `json:"documentation_url"`
}

func (b *broker) history() []member {
	b.t.Helper()
	var all []member
	for line := range strings.Lines(b.command("replay", "--format", "json")) {
		var m member
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			b.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// count tells how many updates of a Thing have this time.
func count(all []member, ns string, ts float64) (n int) {
	for _, m := range all {
		if m.NS == ns && m.TS == ts {
			n++
		}
	}
	return n
}

// The command line of the original's documentation, with the program's name
// changed, and what it made of messages of libzmq.
func TestAdaptZMQ(t *testing.T) {
	b := startBroker(t)
	zmq := startPeer(t, "libzmq.py")
	port := freePorts(t)
	zmq.do("bind", args{"name": "camera", "type": "XPUB", "url": fmt.Sprintf("tcp://127.0.0.1:%d", port)}, nil)
	a := startAdaptor(t, "zmq", "--ns", "spacemon", "--nskey", "camname", "--tskey", "frame_time", "--filter", "mtype:percept_update",
		"--projections", "luminance,ratio_busy", "--url", fmt.Sprintf("tcp://*:%d", b.port+inputPort),
		"-s", fmt.Sprintf("tcp://127.0.0.1:%d,tcp://127.0.0.1:%d", port, port+1),
		"--documentation", "https://wiki.pumpingstationone.org/Spacemon#Things_Bus")
	var subscription []string
	zmq.do("recv", args{"name": "camera", "timeout": patience.Seconds()}, &subscription)
	publish := func(frames ...string) {
		for i := range frames {
			frames[i] = base64.StdEncoding.EncodeToString([]byte(frames[i]))
		}
		var sent bool
		if zmq.do("send", args{"name": "camera", "frames": frames, "timeout": patience.Seconds()}, &sent); !sent {
			t.Fatal("not sent")
		}
	}
	publish(`{"mtype": "percept_update", "camname": "electronics", "frame_time": 1423351104.945, "luminance": 106.09383138020833, "ratio_busy": 0.03262867647058824, "fps": 3}`)
	publish(`{"mtype": "other"}`)
	publish(`{"mtype": "percept_update", "camname": "electronics"}`) // the original ends here
	publish("a topic", `{"mtype": "percept_update", "camname": "hall", "frame_time": 5, "luminance": 1, "ratio_busy": 0}`)
	eventually(t, "both are kept", func() bool { return len(b.history()) == 2 })
	if err := a.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	const summary = "tbhist: 5 received, 2 sent, 3 skipped (1 filter, 1 not_json, 1 key)"
	a.await(summary)

	b.kill()
	publish(`{"mtype": "percept_update", "camname": "hall", "frame_time": 6, "luminance": 2, "ratio_busy": 0}`)
	a.await("not connected to the broker")
	publish(`{"mtype": "percept_update", "camname": "hall", "frame_time": 7, "luminance": 3, "ratio_busy": 0}`)
	b.start()
	eventually(t, "what came while the broker was away is kept", func() bool { return count(b.history(), "spacemon.hall", 7) == 1 })

	all := b.history()
	if first := all[0]; first.NS != "spacemon.electronics" || first.TS != 1423351104.945 || first.Doc == nil ||
		*first.Doc != "https://wiki.pumpingstationone.org/Spacemon#Things_Bus" ||
		!sameJSON(t, first.Data, `{"luminance": 106.09383138020833, "ratio_busy": 0.03262867647058824}`) {
		t.Errorf("got %+v", first)
	}
	a.stop()
	measured(t, "adapt zmq with the original's command line: %d updates kept, over a SIGKILL of the broker", len(all))
}

// Another broker's updates, of an original and of tbhist, over a restart of
// each side.
func TestAdaptThingsbus(t *testing.T) {
	for _, original := range []bool{true, false} {
		name := "tbhist"
		if original {
			name = "original"
		}
		t.Run(name, func(t *testing.T) {
			var source restartable
			url := "tcp://127.0.0.1:7954"
			input := "tcp://127.0.0.1:7955"
			if original {
				source = startOriginal(t)
			} else {
				b := startBroker(t)
				source, url, input = b, b.url(feedPort), b.url(inputPort)
			}
			adaptThingsbus(t, name, source, url, input)
		})
	}
}

// restartable is a broker of either kind.
type restartable interface {
	kill()
	start()
}

func adaptThingsbus(t *testing.T, name string, source restartable, url, input string) {
	b := startBroker(t)
	zmq := startPeer(t, "libzmq.py")
	senders := 0
	var sender string
	connect := func() {
		senders++
		sender = fmt.Sprint("sender", senders)
		zmq.do("open", args{"name": sender, "type": "XPUB", "url": input}, nil)
		var subscription []string
		zmq.do("recv", args{"name": sender, "timeout": patience.Seconds()}, &subscription)
	}
	send := func(ns string, data, ts float64, doc string) {
		t.Helper()
		update, err := json.Marshal(map[string]any{"type": "thing_update", "ns": ns, "data": data + 0.5, "ts": ts, "documentation_url": doc})
		if err != nil {
			t.Fatal(err)
		}
		zmq.do("send", args{"name": sender, "frames": []string{base64.StdEncoding.EncodeToString(update)}, "timeout": patience.Seconds()}, nil)
	}
	base := float64(time.Now().Unix()) + 0.25 // never whole: an original drops integers
	kept := func(what, ns string, ts float64) {
		t.Helper()
		eventually(t, what, func() bool { return count(b.history(), ns, ts) == 1 })
	}

	connect()
	send("shop.silent", 1, base, "http://silent")
	a := startAdaptor(t, "thingsbus", "-s", url, "--broker", b.url(feedPort))
	kept("a Thing that is silent comes with a snapshot", "shop.silent", base)
	send("shop.live", 1, base+1, "http://live")
	kept("a live update comes", "shop.live", base+1)

	source.kill()
	a.await("connection lost")
	source.start()
	connect()
	eventually(t, "the source is connected again", func() bool { return strings.Count(a.log.String(), "connected to the source") == 2 })
	send("shop.live", 2, base+2, "http://live")
	kept("an update after the source's restart comes", "shop.live", base+2)

	b.kill()
	a.await("not connected to the broker")
	send("shop.live", 3, base+3, "http://live")
	b.start()
	kept("an update from while the broker was away comes", "shop.live", base+3)

	// The next one knows from the broker what it has.
	first := a.stop()
	a = startAdaptor(t, "thingsbus", "-s", url, "--broker", b.url(feedPort))
	a.await("connected to the source")
	send("shop.silent", 2, base+4, "http://silent")
	kept("an update after the adaptor's restart comes", "shop.silent", base+4)
	second := a.stop()

	all := b.history()
	seen := map[string]bool{}
	for _, m := range all {
		id := fmt.Sprint(m.NS, m.TS)
		if seen[id] {
			t.Errorf("%s came twice", id)
		}
		seen[id] = true
		if want := "http://" + strings.TrimPrefix(m.NS, "shop."); m.Doc == nil || *m.Doc != want {
			t.Errorf("the documentation URL of %s is %v", m.NS, m.Doc)
		}
	}
	if len(all) != 5 {
		t.Errorf("%d updates are kept, not 5\n%s\n%s", len(all), first, second)
	}
	measured(t, "adapt thingsbus from %s, over a restart of source, broker and adaptor: %d updates, none twice", name, len(all))
}

// original is a broker of thingsbus 0.2.1, which has its ports built in.
type original struct {
	t   *testing.T
	cmd *exec.Cmd
}

func startOriginal(t *testing.T) *original {
	o := &original{t: t}
	o.start()
	t.Cleanup(o.kill)
	return o
}

func (o *original) start() {
	o.t.Helper()
	o.cmd = exec.Command(python, "-m", "thingsbus.broker")
	if err := o.cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
}

func (o *original) kill() {
	_ = o.cmd.Process.Kill() // it may have ended
	_ = o.cmd.Wait()         // it was killed
}
