package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"
)

// redisPipeline is how many commands are sent before their answers are read.
const redisPipeline = 200

// redisMissing says why rows have no Redis, and is "" when it is there.
func (b *bench) redisMissing() string {
	if _, err := exec.LookPath(b.redis); err != nil {
		return "left out Redis, which is not there: apt install redis-server, or -redis PROGRAM"
	}
	return ""
}

// redisRun adds n updates to one stream for each Thing, pipelined, with no
// consumer.
func (b *bench) redisRun(ctx context.Context, fsync string, ring int, w *workload, n int) (s sample, err error) {
	dir, remove, err := b.tempDir("redis")
	defer remove()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(b.redis, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--appendonly", "yes", "--appendfsync", fsync, "--save", "", "--daemonize", "no")
	p, err := startProcess(cmd, cmd.StdoutPipe)
	if err != nil {
		return nil, err
	}
	defer p.kill()
	if _, err := p.await(ctx, "Ready to accept connections"); err != nil {
		return nil, err
	}
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer func() { _ = c.Close() }() // it was all answered, or failed already
	limit := strconv.Itoa(ring)
	pieces := w.join(0, min(n, cycle), redisPipeline, func(dst []byte, name string, payload []byte) []byte {
		return fmt.Appendf(dst, "*8\r\n$4\r\nXADD\r\n$%d\r\n%s\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$%d\r\n%s\r\n$1\r\n*\r\n$1\r\nu\r\n$%d\r\n%s\r\n",
			len(name), name, len(limit), limit, len(payload), payload)
	})
	answers := bufio.NewReaderSize(c, 64<<10)
	before, start := cpuSeconds(p.cmd.Process.Pid), time.Now()
	for i := range n / redisPipeline {
		if _, err := c.Write(pieces[i%len(pieces)]); err != nil {
			return nil, err
		}
		for range redisPipeline {
			if err := redisAnswer(answers); err != nil {
				return nil, err
			}
		}
	}
	s = rate(n, time.Since(start))
	s["cpu_us"] = 1e6 * (cpuSeconds(p.cmd.Process.Pid) - before) / float64(n)
	return s, nil
}

// redisAnswer reads the answer to XADD: the entry's id as a bulk string.
func redisAnswer(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if line[0] != '$' {
		return errors.New("Redis answers " + string(bytes.TrimSpace(line)))
	}
	_, err = r.ReadSlice('\n')
	return err
}

// freePort gives a port that was free just now.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close()
}
