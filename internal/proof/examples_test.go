//go:build proof

package proof

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// example is one of the programs of docs/examples, with its ports moved to
// those of the broker under test.
type example struct {
	t   *testing.T
	cmd *exec.Cmd
	err *logBuffer

	lines chan string // of its standard output; closed at its end
}

func startExample(t *testing.T, b *broker, name string, arguments ...string) *example {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "..", "docs", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	moved := string(source)
	for _, p := range []struct {
		standard string
		port     int
	}{{"7954", feedPort}, {"7955", inputPort}, {"7956", historyPort}} {
		_, port, _ := strings.Cut(b.addr(p.port), ":")
		moved = strings.ReplaceAll(moved, "}:"+p.standard, "}:"+port)
	}
	if moved == string(source) {
		t.Fatalf("%s: no port of the broker is in it", name)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &example{t: t, err: &logBuffer{changed: make(chan struct{})}, lines: make(chan string, 1<<16)}
	e.cmd = exec.Command(python, append([]string{"-B", file}, arguments...)...)
	e.cmd.Stderr = e.err
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(e.lines)
		for s := bufio.NewScanner(io.Reader(out)); s.Scan(); {
			e.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = e.cmd.Process.Kill() // it may have ended
		<-ended
		_ = e.cmd.Wait() // it was killed
	})
	return e
}

// next gives its next line.
func (e *example) next() string {
	e.t.Helper()
	timer := time.After(patience)
	select {
	case line, ok := <-e.lines:
		if ok {
			return line
		}
		e.t.Fatalf("it has ended: %s", e.err)
	case <-timer:
		e.t.Fatalf("nothing comes from it: %s", e.err)
	}
	return ""
}

// until reads lines until one holds text.
func (e *example) until(text string) string {
	e.t.Helper()
	for {
		if line := e.next(); strings.Contains(line, text) {
			return line
		}
	}
}

// end interrupts it as Ctrl-C does; it must end well.
func (e *example) end() {
	e.t.Helper()
	if err := e.cmd.Process.Signal(syscall.SIGINT); err != nil {
		e.t.Fatal(err)
	}
	timer := time.After(patience)
	for {
		select {
		case _, ok := <-e.lines:
			if !ok {
				if err := e.cmd.Wait(); err != nil {
					e.t.Fatalf("interrupted, it ends with %v: %s", err, e.err)
				}
				return
			}
		case <-timer:
			e.t.Fatalf("interrupted, it does not end: %s", e.err)
		}
	}
}

// The programs that the documentation shows do what it says.
func TestExamples(t *testing.T) {
	b, z := startBroker(t), startLibzmq(t)
	feed := startExample(t, b, "feed.py", "127.0.0.1", "shop.bench")
	live := startExample(t, b, "live.py")
	subtree := startExample(t, b, "subtree.py", "shop")
	live.until("shop.bench: {'temperature': ")
	subtree.until("shop.bench = {'temperature': ")
	other := z.publisher(b, "other", b.url(inputPort), nil)
	other.send([]byte(`["elsewhere", null, 1, null]`))
	other.send([]byte(`["shop", null, 2, null]`))
	live.until("elsewhere: 1")
	if line := subtree.until("shop = 2"); strings.Contains(line, "elsewhere") {
		t.Error(line)
	}
	feed.end()
	live.end()
	subtree.end()
}

// A follower that uses pyzmq alone has all of history and what comes after
// it, in order and once, while the broker is killed and started again.
func TestExampleFollow(t *testing.T) {
	b, z := startBroker(t), startLibzmq(t)
	in := z.publisher(b, "in", b.url(inputPort), options{"RECONNECT_IVL": 20})
	const batch, rounds = 2000, 4
	in.publish(0, batch, 7, 200)
	follower := startExample(t, b, "follow.py")
	seq := uint64(0)
	follow := func(to uint64) {
		t.Helper()
		for seq < to {
			var u struct{ Seq uint64 }
			line := follower.next()
			if err := json.Unmarshal([]byte(line), &u); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if seq++; u.Seq != seq {
				t.Fatalf("update %d has seq %d", seq, u.Seq)
			}
		}
	}
	for round := range rounds {
		if round > 0 {
			in.publish(round*batch, batch, 7, 200)
		}
		follow(uint64((round + 1) * batch))
		if round == rounds/2 {
			b.kill()
			b.start()
			in = z.publisher(b, "again", b.url(inputPort), nil)
		}
	}
	follower.end()
	measured(t, "docs/examples/follow.py: %d updates once and in order over a restart of the broker", seq)
}
