//go:build proof

package proof

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// mosquittoBroker is Debian's mosquitto; started again it has its port and
// what it keeps on disk.
type mosquittoBroker struct {
	t      *testing.T
	addr   string
	config string
	cmd    *exec.Cmd
	log    *logBuffer
}

// startMosquitto starts one. With a password, the user ha has to name it.
func startMosquitto(t *testing.T, password string) *mosquittoBroker {
	t.Helper()
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mosquittoBroker{t: t, addr: ln.Addr().String(), config: filepath.Join(dir, "mosquitto.conf"), log: &logBuffer{changed: make(chan struct{})}}
	_ = ln.Close() // mosquitto cannot be given a listener
	_, port, err := net.SplitHostPort(m.addr)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("listener %s 127.0.0.1\nuser root\npersistence true\npersistence_location %s/\nmax_queued_messages 0\nallow_anonymous %v\n", port, dir, password == "")
	if password != "" {
		file := filepath.Join(dir, "passwords")
		if out, err := mosquittoCommand("mosquitto_passwd", "-c", "-b", file, "ha", password).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_passwd: %v %s", err, out)
		}
		config += "password_file " + file + "\n"
	}
	if err := os.WriteFile(m.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			t.Logf("mosquitto's log:\n%s", m.log)
		}
	})
	return m
}

func mosquittoCommand(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(mosquitto, name), args...)
	cmd.Env = append(cleanEnv(), "LD_LIBRARY_PATH="+filepath.Join(mosquitto, "lib"))
	return cmd
}

func (m *mosquittoBroker) start() {
	m.t.Helper()
	m.cmd = mosquittoCommand("mosquitto", "-c", m.config)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, "mosquitto listens", func() bool {
		conn, err := net.Dial("tcp", m.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// stop ends it as systemd does: it saves what it keeps.
func (m *mosquittoBroker) stop() {
	_ = m.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = m.cmd.Wait()                          // how is of no interest
}

// device connects something that publishes.
func (m *mosquittoBroker) device(password string) mqtt.Client {
	m.t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + m.addr).SetClientID("device").SetCleanSession(false).
		SetUsername("ha").SetPassword(password).SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).
		SetMaxReconnectInterval(200 * time.Millisecond))
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		m.t.Fatalf("connecting to mosquitto: %v", token.Error())
	}
	m.t.Cleanup(func() { c.Disconnect(100) })
	return c
}

func (m *mosquittoBroker) publish(c mqtt.Client, topic, payload string, qos byte, retain bool) {
	m.t.Helper()
	if token := c.Publish(topic, qos, retain, payload); !token.WaitTimeout(patience) || token.Error() != nil {
		m.t.Errorf("publishing: %v", token.Error())
	}
}

func (m *mosquittoBroker) adaptor(b *broker, flags ...string) *adaptor {
	m.t.Helper()
	return startAdaptor(m.t, append([]string{"mqtt", "-s", "tcp://" + m.addr, "--ns", "home", "--broker", b.url(feedPort)}, flags...)...)
}

// What docs/MQTT.md shows of devices, through mosquitto.
func TestMQTTDevices(t *testing.T) {
	doc, err := os.ReadFile("../../docs/MQTT.md")
	if err != nil {
		t.Fatal(err)
	}
	m, b := startMosquitto(t, ""), startBroker(t)
	device := m.device("")
	m.publish(device, "old/lamp", `{"state": "from before"}`, 1, true)
	a := m.adaptor(b, "--topic", "#")
	a.await("connected to the source")

	published, sent := "", 0
	want := map[string]string{}
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		if comes, ok := strings.CutPrefix(line, "→ "); ok {
			topic, payload, _ := strings.Cut(published, "  ")
			// As a device that retains what it says; each QoS has its turn.
			m.publish(device, topic, payload, byte(sent%3), sent%2 == 0)
			name, data, _ := strings.Cut(comes, "  ")
			want[name] = data
			sent++
		}
		published = line
	}
	var all []member
	eventually(t, "all are kept", func() bool {
		all = b.history()
		return len(all) >= sent
	})
	for _, got := range all {
		if string(got.Data) != want[got.NS] {
			t.Errorf("%s is %s, and docs/MQTT.md says %s", got.NS, got.Data, want[got.NS])
		}
		delete(want, got.NS)
	}
	if summary := a.stop(); len(want) > 0 || sent < 16 || !strings.Contains(summary, "1 skipped (1 retained)") {
		t.Errorf("%d examples, without %v: %s", sent, want, summary)
	}
	measured(t, "adapt mqtt: %d payloads of Tasmota, zigbee2mqtt, ESPHome and Home Assistant through mosquitto come out as documented", sent)
}

// While messages of QoS 1 come in, the bridge is killed and stopped, and
// mosquitto restarted; while it is quiet, tbhist is killed. All come.
func TestMQTTNothingLost(t *testing.T) {
	const messages = 4000
	m, b := startMosquitto(t, "right"), startBroker(t)
	passwords := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(passwords, []byte("ha:right\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() *adaptor {
		return m.adaptor(b, "--topic", "flow/#", "--password-file", passwords, "--client-id", "proof")
	}
	a := start()
	a.await("connected to the source")
	device := m.device("right")
	kept := func() (distinct, total int) {
		seen := map[int]bool{}
		for _, u := range b.history() {
			var i int
			if err := json.Unmarshal(u.Data, &i); err != nil || u.NS != "home.flow.meter" {
				t.Fatalf("%s: %s", u.NS, u.Data)
			}
			seen[i] = true
			total++
		}
		return len(seen), total
	}
	publish := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			m.publish(device, "flow/meter", strconv.Itoa(i), 1, false)
		}
	}
	var ends []string
	for i := 0; i < messages; i += messages / 8 {
		half, published := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(published)
			publish(i, i+messages/16)
			close(half)
			publish(i+messages/16, i+messages/8)
		}()
		<-half
		switch i / (messages / 8) % 4 {
		case 0:
			_ = a.cmd.Process.Kill() // it may not have ended by itself
			<-a.exited
			a = start()
			ends = append(ends, "bridge killed")
		case 1:
			a.stop()
			a = start()
			ends = append(ends, "bridge stopped")
		case 2:
			m.stop()
			m.start()
			ends = append(ends, "mosquitto restarted")
		case 3: // the network has nothing under way
			<-published
			eventually(t, "all so far are kept", func() bool { n, _ := kept(); return n == i+messages/8 })
			b.kill()
			a.await("not connected to the broker")
			m.publish(device, "flow/meter", strconv.Itoa(i), 1, false) // once more
			b.start()
			ends = append(ends, "tbhist killed")
		}
		<-published
	}
	total := 0
	eventually(t, "all are kept", func() bool {
		var distinct int
		distinct, total = kept()
		return distinct == messages
	})
	a.stop()
	measured(t, "adapt mqtt, QoS 1 through mosquitto: %d of %d messages kept, %d of them more than once; meanwhile %s", messages, messages, total-messages, strings.Join(ends, ", "))
}

// What is refused at the start ends it with a sentence.
func TestMQTTPassword(t *testing.T) {
	m, b := startMosquitto(t, "right"), startBroker(t)
	for password, want := range map[string]string{"": "wants a user and a password", "wrong": `refuses the user "ha" or the password`} {
		cmd := exec.Command(program, "adapt", "mqtt", "-s", "tcp://"+m.addr, "--ns", "home", "--topic", "#", "--broker", b.url(feedPort))
		cmd.Env = cleanEnv()
		if password != "" {
			cmd.Env = append(cmd.Env, "TBHIST_MQTT_USER=ha", "TBHIST_MQTT_PASSWORD="+password)
		}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), want) {
			t.Errorf("with the password %q: %v %s", password, err, out)
		}
	}
}
