package cli

import (
	"bufio"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// silent listens and accepts, and says nothing.
func silent(t *testing.T) (broker string, accepted <-chan struct{}) {
	t.Helper()
	// The main port lies two below: the history service is what is asked.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen, ended := make(chan struct{}, 16), make(chan struct{})
	go func() {
		defer close(ended)
		var conns []net.Conn
		for {
			conn, err := ln.Accept()
			if err != nil {
				for _, c := range conns {
					_ = c.Close()
				}
				return
			}
			conns = append(conns, conn)
			select {
			case seen <- struct{}{}:
			default: // nobody counts them
			}
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-ended
	})
	port := ln.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is TCP
	return net.JoinHostPort("127.0.0.1", itoa(port-2)), seen
}

// A finite command that is interrupted ends with 130 and says nothing.
func TestInterruptedCommand(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		broker, accepted := silent(t)
		cmd := command("things", "--broker", broker)
		cmd.Env = cleanEnv()
		p, err := start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		<-accepted
		code, err := p.end(s)
		if err != nil || code != 130 || p.log() != "" {
			t.Errorf("ends with %d, %v, and says %q", code, err, p.log())
		}
	}
}

// Something that is no broker and says nothing is found out.
func TestSilentBroker(t *testing.T) {
	broker, _ := silent(t)
	_, stderr, code := run(t, "things", "--broker", broker)
	if code != 1 || !strings.Contains(stderr, "no broker answers at tcp://"+broker) || !strings.Contains(stderr, "nothing is heard from it") {
		t.Errorf("ends with %d and says %q", code, stderr)
	}
}

// tail and --follow go on until they are interrupted, and then are done.
func TestInterruptedFollowing(t *testing.T) {
	b := serve(t, t.TempDir())
	runs(t, "send", "a", "1", "--broker", b.broker)
	for _, args := range [][]string{{"tail", "--snapshots"}, {"replay", "--follow"}, {"replay", "--follow", "--strict", "--format", "json"}} {
		cmd := command(append(args, "--broker", b.broker)...)
		cmd.Env = cleanEnv()
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil || !strings.Contains(line, "1") {
			t.Fatalf("%v prints %q, %v: %s", args, line, err, p.log())
		}
		if code, err := p.end(syscall.SIGINT); err != nil || code != 0 || p.log() != "" {
			t.Errorf("%v ends with %d, %v, and says %q", args, code, err, p.log())
		}
	}
}

// Who reads the output has seen enough ("| head"): that is no failure.
func TestBrokenPipe(t *testing.T) {
	b := serve(t, t.TempDir())
	send := adaptor(t, b.port)
	for range 3 {
		send("a", strings.Repeat("x", 200_000)) // more than a pipe holds
	}
	awaitMetric(t, b, "tbhist_history_updates", "3")
	for _, args := range [][]string{{"replay"}, {"get", "a"}, {"replay", "--follow", "--format", "csv"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := command(append(args, "--broker", b.broker)...)
		cmd.Env, cmd.Stdout = cleanEnv(), w
		p, err := start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		<-p.exited
		if p.code != 0 || p.log() != "" {
			t.Errorf("%v ends with %d and says %q", args, p.code, p.log())
		}
	}
}

// The second signal ends a broker at once. The first one finds a subscriber
// that takes nothing, and would wait for it.
func TestSecondSignal(t *testing.T) {
	b := serve(t, t.TempDir())
	listening(t, b.port)
	send := adaptor(t, b.port)
	for range 40 {
		send("a", strings.Repeat("x", 1_000_000))
	}
	awaitMetric(t, b, "tbhist_history_updates", "40")
	if err := b.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _, err := b.await("msg=stopping"); err != nil {
		t.Fatal(err)
	}
	if code, err := b.end(syscall.SIGINT); err != nil || code != 1 {
		t.Errorf("ends with %d, %v", code, err)
	}
}
