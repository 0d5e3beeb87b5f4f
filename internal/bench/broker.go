package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// The ports of a broker, from its main one.
const (
	feedPort = iota
	inputPort
	historyPort
	httpPort
)

// broker is a running tbhist.
type broker struct {
	*process
	b    *bench
	db   string
	args []string
	port int
}

// startBroker starts tbhist on free ports with a history in dir.
func (b *bench) startBroker(ctx context.Context, dir string, args ...string) (*broker, error) {
	br := &broker{b: b, db: filepath.Join(dir, "tbhist.db"), args: args}
	return br, br.start(ctx)
}

func (br *broker) start(ctx context.Context) error {
	cmd := exec.Command(br.b.program, append([]string{
		"serve", "--listen", "127.0.0.1:0", "--db", br.db, "--max-things", "1000000",
	}, br.args...)...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "TBHIST_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	p, err := startProcess(cmd, cmd.StderrPipe)
	if err != nil {
		return err
	}
	br.process = p
	line, err := br.await(ctx, "endpoint=feed")
	if err == nil {
		br.port, err = strconv.Atoi(line[strings.LastIndexByte(line, ':')+1:])
	}
	if err == nil {
		_, err = br.await(ctx, "msg=ready")
	}
	if err != nil {
		br.kill()
	}
	return err
}

// stop ends it as systemd does.
func (br *broker) stop() error { return br.end(br.interrupt) }

func (br *broker) addr(port int) string { return "127.0.0.1:" + strconv.Itoa(br.port+port) }

// metrics reads the value of each of the series.
func (br *broker) metrics(ctx context.Context, series ...string) ([]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+br.addr(httpPort)+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close() // it was read to its end
	if err != nil {
		return nil, err
	}
	var values []float64
	for _, s := range series {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(s) + ` (\S+)$`).FindSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("/metrics has no %s", s)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// profiled runs f, with a CPU profile named for what is measured where that
// was asked for; of several rounds the last one stays.
func (br *broker) profiled(ctx context.Context, name string, f func() error) error {
	if br.b.profile == "" {
		return f()
	}
	tell := func(line string) error {
		if _, err := fmt.Fprintln(br.stdin, line); err != nil {
			return err
		}
		_, err := br.await(ctx, "profile: done")
		return err
	}
	if err := tell("start " + filepath.Join(br.b.profile, name+".pprof")); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return tell("stop")
}
