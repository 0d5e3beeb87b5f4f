package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// patience bounds every wait for a process.
const patience = 60 * time.Second

// process is a child whose output is read line by line.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string   // the first lines of output, for await
	exited chan struct{} // closed when it has ended
	err    error         // how, then

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// startProcess starts cmd with output, one of its standard streams, read.
func startProcess(cmd *exec.Cmd, output func() (io.ReadCloser, error)) (*process, error) {
	p := &process{cmd: cmd, lines: make(chan string, 256), exited: make(chan struct{})}
	out, err := output()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			if p.log.Len() < 64<<10 {
				p.log.WriteString(s.Text() + "\n")
			}
			p.mu.Unlock()
			select {
			case p.lines <- s.Text():
			default:
			}
		}
		p.err = cmd.Wait()
	}()
	return p, nil
}

// await gives the first line that has text in it.
func (p *process) await(ctx context.Context, text string) (string, error) {
	deadline := time.After(patience)
	for {
		select {
		case line := <-p.lines:
			if strings.Contains(line, text) {
				return line, nil
			}
		case <-p.exited:
			return "", fmt.Errorf("%s ended: %w: %s", p.cmd.Path, p.err, p.output())
		case <-deadline:
			return "", fmt.Errorf("%s does not write %q: %s", p.cmd.Path, text, p.output())
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// end asks the process to end, in the way that ask does, and waits.
func (p *process) end(ask func() error) error {
	err := ask()
	select {
	case <-p.exited:
		return errors.Join(err, p.err)
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("%s does not end: %s", p.cmd.Path, p.output())
	}
}

// kill ends the process at once. It may have ended already.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // see above
	<-p.exited
}

// interrupt is a way to ask.
func (p *process) interrupt() error { return p.cmd.Process.Signal(os.Interrupt) }
