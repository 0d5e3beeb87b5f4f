package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tbhist/client"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// process is one running tbhist.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
	code   int           // its exit code then, -1 after a signal

	mu      sync.Mutex // guards what follows
	stderr  bytes.Buffer
	changed chan struct{} // closed, and made anew, with each line
}

// command makes a command that runs this test binary as tbhist.
func command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "tbhist"
	return cmd
}

// start runs the command; its standard error is read line by line.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{}), changed: make(chan struct{})}
	r, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadString('\n')
			p.mu.Lock()
			p.stderr.WriteString(line)
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
			if err != nil {
				break
			}
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			p.code = exit.ExitCode()
		}
	}()
	return p, nil
}

// log gives what was written to standard error so far.
func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// await waits until standard error matches, and gives the submatches.
func (p *process) await(pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		match, changed, log := re.FindStringSubmatch(p.stderr.String()), p.changed, p.stderr.String()
		p.mu.Unlock()
		if match != nil {
			return match, nil
		}
		select {
		case <-changed:
		case <-p.exited:
			if match = re.FindStringSubmatch(p.log()); match != nil {
				return match, nil
			}
			return nil, fmt.Errorf("the process ended with code %d before it wrote %q:\n%s", p.code, pattern, p.log())
		case <-deadline:
			return nil, fmt.Errorf("no %q in:\n%s", pattern, log)
		}
	}
}

// kill ends the process as a power cut would, and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.exited
}

// end sends a signal and waits for the exit code.
func (p *process) end(s os.Signal) (int, error) {
	if err := p.cmd.Process.Signal(s); err != nil {
		return 0, err
	}
	select {
	case <-p.exited:
		return p.code, nil
	case <-time.After(patience):
		return 0, fmt.Errorf("not ended by %v:\n%s", s, p.log())
	}
}

// serveProcess is a running broker.
type serveProcess struct {
	*process
	broker string // the URL of its main port
	port   int
	guard  net.Listener // keeps others off its ports while it is down; nil where they were given
}

// release kills it and lets go of its ports.
func (s *serveProcess) release() {
	s.kill()
	if s.guard != nil {
		_ = s.guard.Close()
	}
}

// startServe starts a broker in dir and waits until it is ready. Without a
// --listen of its own it listens on free ports of the loopback that stay so.
func startServe(dir string, env []string, args ...string) (_ *serveProcess, err error) {
	s := &serveProcess{}
	defer func() {
		if err != nil && s.guard != nil {
			_ = s.guard.Close()
		}
	}()
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		var port int
		if port, s.guard, err = quietPort(); err != nil {
			return nil, err
		}
		args = append(args, "--listen", "127.0.0.1:"+itoa(port))
	}
	cmd := command(append([]string{"serve"}, args...)...)
	cmd.Dir, cmd.Env = dir, env
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	s.process = p
	if _, err = p.await(`msg=ready|"msg":"ready"`); err != nil {
		p.kill()
		return nil, err
	}
	match, err := p.await(`endpoint=feed addr=\S*:(\d+)|"endpoint":"feed","addr":"[^"]*:(\d+)"`)
	if err != nil {
		p.kill()
		return nil, err
	}
	if _, err := fmt.Sscan(match[1]+match[2], &s.port); err != nil {
		p.kill()
		return nil, err
	}
	s.broker = fmt.Sprintf("tcp://127.0.0.1:%d", s.port)
	return s, nil
}

// quietPort finds a main port for which all are free, and stay so while a
// broker is started anew: the system gives ports from 32768 on to whoever
// connects, and no other test takes them while guard, the port behind them, is
// open.
func quietPort() (port int, guard net.Listener, err error) {
	for range seekTries {
		port = 12000 + 5*rand.IntN(1600)
		if guard, err = net.Listen("tcp", "127.0.0.1:"+itoa(port+client.HTTPOffset+1)); err != nil {
			continue
		}
		var s *sockets
		if s, err = openSocketsAt("127.0.0.1", port); err == nil {
			s.close()
			return port, guard, nil
		}
		_ = guard.Close()
	}
	return 0, nil, err
}

// serve starts a broker for a test and ends it with the test.
func serve(t *testing.T, dir string, args ...string) *serveProcess {
	t.Helper()
	s, err := startServe(dir, cleanEnv(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.release()
		if t.Failed() {
			t.Logf("the broker's log:\n%s", s.log())
		}
	})
	return s
}

// cleanEnv is the environment without tbhist's variables and systemd's.
func cleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		switch name, _, _ := strings.Cut(e, "="); {
		case strings.HasPrefix(name, "TBHIST_"):
		case name == "STATE_DIRECTORY", name == "NOTIFY_SOCKET", strings.HasPrefix(name, "WATCHDOG_"):
		default:
			env = append(env, e)
		}
	}
	return env
}

// run runs tbhist to its end.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(args...)
	cmd.Env = cleanEnv()
	var out bytes.Buffer
	cmd.Stdout = &out
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.kill()
		t.Fatalf("tbhist %q does not end", args)
	}
	return out.String(), p.log(), p.code
}

// runs is run that must succeed.
func runs(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := run(t, args...)
	if code != 0 {
		t.Fatalf("tbhist %q ends with %d: %s", args, code, stderr)
	}
	return stdout
}
