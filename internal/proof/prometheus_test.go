//go:build proof

package proof

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const scrapeConfig = `
scrape_configs:
  - job_name: tbhist
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs:
      - targets: ["%s"]
`

// prom is a running Prometheus that scrapes one broker.
type prom struct {
	t    *testing.T
	addr string
}

func startPrometheus(t *testing.T, b *broker) *prom {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, scrapeConfig, b.addr(httpPort)), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &prom{t: t, addr: ln.Addr().String()}
	_ = ln.Close() // Prometheus cannot tell which port it was given
	log := &logBuffer{changed: make(chan struct{})}
	cmd := exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // how is of no interest
		if t.Failed() {
			t.Logf("Prometheus's log:\n%s", log)
		}
	})
	return p
}

// query gives the value of an instant query that has one, and whether it has.
func (p *prom) query(q string) (float64, bool) {
	p.t.Helper()
	answer, err := http.Get("http://" + p.addr + "/api/v1/query?query=" + url.QueryEscape(q))
	if err != nil {
		return 0, false // not up yet
	}
	defer answer.Body.Close()
	var body struct {
		Status string
		Error  string
		Data   struct {
			Result []struct{ Value [2]any }
		}
	}
	if answer.StatusCode == http.StatusServiceUnavailable {
		return 0, false
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || body.Status != "success" {
		p.t.Fatalf("%s: %v %s", q, err, body.Error)
	}
	if len(body.Data.Result) != 1 {
		return 0, false
	}
	text, _ := body.Data.Result[0].Value[1].(string) // ParseFloat tells
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		p.t.Fatalf("%s: %v", q, err)
	}
	return value, true
}

// await waits until a query has a value that will do.
func (p *prom) await(q string, fine func(float64) bool) (value float64) {
	p.t.Helper()
	eventually(p.t, q, func() (ok bool) {
		value, ok = p.query(q)
		return ok && fine(value)
	})
	return value
}

// Prometheus scrapes the broker and tells how fresh a Thing is, before and
// after a restart of the broker.
func TestPrometheus(t *testing.T) {
	const series = `tbhist_thing_received_timestamp_seconds{thing="spacemon.electronics"}`
	any := func(float64) bool { return true }
	is := func(want float64) func(float64) bool { return func(v float64) bool { return v == want } }
	began := time.Now()
	b, z := startBroker(t), startLibzmq(t)
	p := startPrometheus(t, b)
	in := z.publisher(b, "in", b.url(inputPort), nil)
	in.send([]byte(`["spacemon.electronics", null, {"luminance": 106.09}, null]`))

	before := p.await("time() - "+series, any)
	received := p.await(series, any)
	updates := p.await(`tbhist_thing_updates_total{thing="spacemon.electronics"}`, is(1))
	started := p.await("process_start_time_seconds", any)
	p.await("up", is(1))

	b.kill()
	p.await("up", is(0))
	b.start()
	p.await("process_start_time_seconds", func(v float64) bool { return v > started })
	p.await("up", is(1))
	after := p.await("time() - "+series, any)
	if again := p.await(series, any); again != received {
		t.Errorf("received was %f, and after the restart %f", received, again)
	}
	p.await(`tbhist_thing_updates_total{thing="spacemon.electronics"}`, is(updates))
	if age := time.Since(began).Seconds(); before < 0 || after <= before || after > age {
		t.Errorf("the Thing was %f s old before the restart and %f s after, of a test that has lasted %f s", before, after, age)
	}

	// It goes on counting where it was.
	eventually(t, "the adaptor is back", func() bool {
		in.send([]byte(`["spacemon.electronics", null, {"luminance": 107.5}, null]`))
		return b.metric(`tbhist_thing_updates_total{thing="spacemon.electronics"}`) > updates
	})
	p.await(`tbhist_thing_updates_total{thing="spacemon.electronics"}`, func(v float64) bool { return v > updates })
	fresh := p.await("time() - "+series, func(v float64) bool { return v < after })
	measured(t, "Prometheus scrapes every second: the Thing was %.1f s old before a restart, %.1f s after, %.1f s when it was sent again", before, after, fresh)
}
