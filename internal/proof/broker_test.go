//go:build proof

package proof

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The offsets of the other ports from the main one.
const (
	feedPort = iota
	inputPort
	historyPort
	httpPort
)

// broker is a broker of a test; killed and started again it keeps its file
// and its ports.
type broker struct {
	t    *testing.T
	db   string
	args []string
	port int

	program string   // program if empty
	env     []string // beside cleanEnv's
	under   []string // a program that runs it, and its arguments

	cmd    *exec.Cmd
	log    *logBuffer
	exited chan struct{} // closed when the process has ended
}

// startBroker starts a broker and ends it with the test.
func startBroker(t *testing.T, args ...string) *broker {
	t.Helper()
	b := &broker{t: t, db: filepath.Join(t.TempDir(), "tbhist.db"), args: args}
	for tries := 0; ; tries++ {
		b.port = freePorts(t)
		err := b.try()
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "in use") || tries == 10 {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		b.kill()
		if t.Failed() {
			t.Logf("the broker's last log:\n%s", b.log)
		}
	})
	return b
}

// freePorts finds a main port for which all are free. Ports that the system
// gives to outgoing connections are left alone: a peer that dials one again
// and again while nobody listens may be connected to itself.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		port, free := 20000+rand.IntN(12000), true
		for i := range 4 {
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+i)))
			if err != nil {
				free = false
				break
			}
			_ = ln.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no free ports")
	return 0
}

// start starts the broker on its file and ports.
func (b *broker) start() {
	b.t.Helper()
	if err := b.try(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) try() error {
	if err := b.launch(); err != nil {
		return err
	}
	return b.awaitReady()
}

// launch starts the process and does not wait for what becomes of it.
func (b *broker) launch() error {
	b.log = &logBuffer{changed: make(chan struct{})}
	line := slices.Concat(b.under, []string{
		cmp.Or(b.program, program), "serve", "--db", b.db, "--listen", fmt.Sprintf("127.0.0.1:%d", b.port),
	}, b.args)
	b.cmd = exec.Command(line[0], line[1:]...)
	b.cmd.Env = append(cleanEnv(), b.env...)
	b.cmd.Stderr = b.log
	if err := b.cmd.Start(); err != nil {
		return err
	}
	exited, cmd := make(chan struct{}), b.cmd
	b.exited = exited
	go func() {
		defer close(exited)
		_ = cmd.Wait() // it is killed
	}()
	return nil
}

func (b *broker) awaitReady() error {
	timeout := time.After(patience)
	for {
		log, changed := b.log.read()
		if strings.Contains(log, "msg=ready") {
			break
		}
		select {
		case <-changed:
		case <-b.exited:
			return fmt.Errorf("the broker ended: %s", b.log)
		case <-timeout:
			b.kill()
			return fmt.Errorf("the broker is not ready: %s", b.log)
		}
	}
	if want := fmt.Sprintf("msg=listening endpoint=feed addr=127.0.0.1:%d\n", b.port); !strings.Contains(b.log.String(), want) {
		b.kill()
		return fmt.Errorf("no %q in the log: %s", want, b.log)
	}
	return nil
}

// kill ends the broker as a power cut would, and waits.
func (b *broker) kill() {
	_ = b.cmd.Process.Kill() // it may have ended
	<-b.exited
}

// stop ends the broker as systemd does.
func (b *broker) stop() {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-b.exited:
	case <-time.After(patience):
		b.t.Fatalf("not ended by SIGTERM:\n%s", b.log)
	}
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		b.t.Fatalf("SIGTERM ended the broker with %d:\n%s", code, b.log)
	}
}

// addr gives one of its addresses, url the same for ZeroMQ.
func (b *broker) addr(offset int) string { return fmt.Sprintf("127.0.0.1:%d", b.port+offset) }
func (b *broker) url(offset int) string  { return "tcp://" + b.addr(offset) }

// command runs a command against the broker and gives its standard output.
func (b *broker) command(args ...string) string {
	b.t.Helper()
	cmd := exec.Command(program, append(args, "--broker", b.url(feedPort))...)
	cmd.Env = cleanEnv()
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			b.t.Fatalf("tbhist %q: %v: %s", args, err, exit.Stderr)
		}
		b.t.Fatal(err)
	}
	return string(out)
}

// metric reads the value of one series, as /metrics writes its name.
func (b *broker) metric(series string) float64 {
	b.t.Helper()
	answer, err := http.Get("http://" + b.addr(httpPort) + "/metrics")
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				b.t.Fatal(err)
			}
			return v
		}
	}
	b.t.Fatalf("no series %s", series)
	return 0
}

// logBuffer keeps what a process writes and tells when that has grown.
type logBuffer struct {
	mu      sync.Mutex // guards the rest
	buf     bytes.Buffer
	changed chan struct{} // closed, and made anew, at each write
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(p), nil
}

func (l *logBuffer) read() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String(), l.changed
}

func (l *logBuffer) String() string {
	log, _ := l.read()
	return log
}
