//go:build proof

package proof

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// peer is a Python process that does what it is told (peers/remote.py), and
// the test that tells it.
type peer struct {
	t *testing.T
	*process
}

type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err *logBuffer

	mu sync.Mutex // one operation at a time
}

// args are the arguments of an operation.
type args map[string]any

// startPeer starts a peer and ends it with the test.
func startPeer(t *testing.T, script string) peer {
	t.Helper()
	p := peer{t, &process{err: &logBuffer{changed: make(chan struct{})}}}
	p.cmd = exec.Command(python, "-B", filepath.Join("peers", script))
	p.cmd.Stderr = p.err
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReaderSize(out, mib)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill ends the process; it may be called again.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // it was killed
}

// try has an operation done, and decodes its result unless that is nil.
func (p *process) try(op string, a args, result any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	request := args{"op": op}
	maps.Copy(request, a)
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	watchdog := time.AfterFunc(2*patience, func() { _ = p.cmd.Process.Kill() }) // the read then fails
	defer watchdog.Stop()
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w: %s", op, err, p.err)
	}
	if line, err = p.out.ReadBytes('\n'); err != nil {
		return fmt.Errorf("%s: %w: %s", op, err, p.err)
	}
	var answer struct {
		Result json.RawMessage
		Error  string
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("%s: %s", op, answer.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// do is try that must succeed.
func (p peer) do(op string, a args, result any) {
	p.t.Helper()
	if err := p.try(op, a, result); err != nil {
		p.t.Fatal(err)
	}
}
