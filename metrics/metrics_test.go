package metrics

import (
	"bufio"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testOptions = Options{
	Version:       "1.2.3",
	Transports:    []string{"zmq", "udp"},
	RefuseReasons: []string{"empty", "ns"},
	Listeners:     []string{"feed", "udp"},
	ConnReasons:   []string{"limit", "not_allowed"},
}

// scrape gives the lines of the text format.
func scrape(t testing.TB, m *Metrics) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
	return strings.Split(w.Body.String(), "\n")
}

func expect(t *testing.T, lines []string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !slices.Contains(lines, line) {
			name, _, _ := strings.Cut(line, "{")
			name, _, _ = strings.Cut(name, " ")
			var near []string
			for _, l := range lines {
				if strings.HasPrefix(l, name) {
					near = append(near, l)
				}
			}
			t.Errorf("the scrape has no line %s, but\n%s", line, strings.Join(near, "\n"))
		}
	}
}

func someThings(n int) func(yield func(ThingSample) bool) {
	return func(yield func(ThingSample) bool) {
		for i := range n {
			if !yield(ThingSample{Name: fmt.Sprintf("things.n%06d", i), TS: 1000.5, Received: 1002, Updates: 7}) {
				return
			}
		}
	}
}

func TestAllSeriesAtFirstScrape(t *testing.T) {
	expect(t, scrape(t, New(testOptions)),
		`tbhist_updates_accepted_total{transport="zmq"} 0`,
		`tbhist_updates_accepted_total{transport="udp"} 0`,
		`tbhist_updates_refused_total{reason="empty",transport="zmq"} 0`,
		`tbhist_updates_refused_total{reason="ns",transport="zmq"} 0`,
		`tbhist_updates_refused_total{reason="empty",transport="udp"} 0`,
		`tbhist_updates_refused_total{reason="ns",transport="udp"} 0`,
		`tbhist_updates_normalised_total{kind="nonfinite"} 0`,
		`tbhist_updates_normalised_total{kind="surrogate"} 0`,
		`tbhist_updates_evicted_total{cause="count"} 0`,
		`tbhist_updates_evicted_total{cause="age"} 0`,
		`tbhist_updates_evicted_total{cause="bytes"} 0`,
		`tbhist_updates_evicted_total{cause="max_db"} 0`,
		`tbhist_updates_evicted_total{cause="forget"} 0`,
		`tbhist_udp_kernel_drops_total 0`,
		`tbhist_connections_refused_total{listener="feed",reason="limit"} 0`,
		`tbhist_connections_refused_total{listener="feed",reason="not_allowed"} 0`,
		`tbhist_connections_refused_total{listener="udp",reason="limit"} 0`,
		`tbhist_connections_refused_total{listener="udp",reason="not_allowed"} 0`,
		`tbhist_degraded 0`,
		`tbhist_commit_duration_seconds_count 0`,
		`tbhist_commit_batch_updates_count 0`,
		`tbhist_history_log_bytes 0`,
		`tbhist_history_segment_bytes 0`,
		`tbhist_history_live_bytes 0`,
		`tbhist_history_file_bytes 0`,
		`tbhist_history_free_pages 0`,
		`tbhist_subscribers 0`,
		`tbhist_updates_delivered_total 0`,
		`tbhist_subscriber_lag_seconds 0`,
		`tbhist_updates_served_from_history_total 0`,
		`tbhist_subscriber_skipped_total 0`,
		`tbhist_replay_pages_total 0`,
		`tbhist_replay_updates_total 0`,
		`tbhist_history_requests_total{type="replay"} 0`,
		`tbhist_history_errors_total{code="bad_request"} 0`,
		`tbhist_snapshot_bytes 0`,
		`tbhist_snapshot_duration_seconds_count 0`,
		`tbhist_things 0`,
		`tbhist_metrics_things_omitted 0`,
	)
}

func TestValues(t *testing.T) {
	m := New(testOptions)
	m.Ingest.Accepted[1].Add(3)
	m.Ingest.Refused[0][1].Inc()
	m.Ingest.NormalisedSurrogate.Inc()
	m.Ingest.UDPKernelDrops.Add(9)
	m.Connections.Listener("feed")("limit")
	m.Store.Evicted[EvictMaxDB].Add(4)
	m.Store.Observe(func() StoreStats {
		return StoreStats{LogBytes: 1, SegmentBytes: 2, LiveBytes: 3, FileBytes: 4, FreePages: 5, Updates: 6, Segments: 7}
	})
	m.Publish.ObserveLag(func() float64 { return 1.5 })
	m.Snapshot.Observe(1234, 3*time.Second)
	m.History.Request("replay")
	m.History.Request("nonsense")
	m.History.Error("busy")
	m.ObserveThings(2, someThings(3))
	expect(t, scrape(t, m),
		`tbhist_updates_accepted_total{transport="udp"} 3`,
		`tbhist_updates_refused_total{reason="ns",transport="zmq"} 1`,
		`tbhist_updates_normalised_total{kind="surrogate"} 1`,
		`tbhist_udp_kernel_drops_total 9`,
		`tbhist_connections_refused_total{listener="feed",reason="limit"} 1`,
		`tbhist_updates_evicted_total{cause="max_db"} 4`,
		`tbhist_history_log_bytes 1`,
		`tbhist_history_segment_bytes 2`,
		`tbhist_history_live_bytes 3`,
		`tbhist_history_file_bytes 4`,
		`tbhist_history_free_pages 5`,
		`tbhist_history_updates 6`,
		`tbhist_history_segments 7`,
		`tbhist_subscriber_lag_seconds 1.5`,
		`tbhist_snapshot_bytes 1234`,
		`tbhist_snapshot_duration_seconds_sum 3`,
		`tbhist_history_requests_total{type="replay"} 1`,
		`tbhist_history_requests_total{type="other"} 1`,
		`tbhist_history_errors_total{code="busy"} 1`,
		`tbhist_things 3`,
		`tbhist_metrics_things_omitted 1`,
		`tbhist_thing_last_update_timestamp_seconds{thing="things.n000000"} 1000.5`,
		`tbhist_thing_received_timestamp_seconds{thing="things.n000001"} 1002`,
		`tbhist_thing_clock_skew_seconds{thing="things.n000001"} 1.5`,
		`tbhist_thing_updates_total{thing="things.n000001"} 7`,
	)
	for _, line := range scrape(t, m) {
		if strings.Contains(line, "n000002") {
			t.Errorf("a Thing beyond the bound has a series: %s", line)
		}
	}
}

func TestRuntimeAndBuild(t *testing.T) {
	lines := strings.Join(scrape(t, New(testOptions)), "\n")
	for _, want := range []string{"\ngo_goroutines ", "\nprocess_start_time_seconds ", `tbhist_build_info{goversion="go`, `version="1.2.3"`} {
		if !strings.Contains(lines, want) {
			t.Errorf("the scrape does not have %q", want)
		}
	}
}

func TestPromlint(t *testing.T) {
	m := New(testOptions)
	m.ObserveThings(1, someThings(1))
	NewAdapt(m.Registry, []string{"filter"}, func() AdaptSample { return AdaptSample{Skipped: []uint64{0}} })
	problems, err := promlint.New(strings.NewReader(strings.Join(scrape(t, m), "\n"))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "tbhist_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// The documentation's table and the code say the same, both ways.
func TestDocumented(t *testing.T) {
	type row struct{ kind, labels, unit, meaning string }
	doc := map[string]row{}
	f, err := os.Open("../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		cells := strings.Split(strings.Trim(sc.Text(), "|"), "|")
		if name := strings.Trim(cells[0], " `"); len(cells) == 5 && strings.HasPrefix(name, "tbhist_") {
			for i := range cells {
				cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "`", ""))
			}
			if _, twice := doc[name]; twice {
				t.Errorf("%s is documented twice", name)
			}
			doc[name] = row{cells[1], cells[2], cells[3], cells[4]}
		}
	}

	m := New(testOptions)
	m.ObserveThings(1, someThings(1))
	NewAdapt(m.Registry, []string{"filter"}, func() AdaptSample { return AdaptSample{Skipped: []uint64{0}} })
	var missing strings.Builder
	for _, family := range parsed(t, strings.Join(scrape(t, m), "\n")) {
		name := family.GetName()
		if !strings.HasPrefix(name, "tbhist_") {
			continue
		}
		var labels []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		unit := ""
		for _, u := range []string{"seconds", "bytes"} {
			if strings.HasSuffix(strings.TrimSuffix(name, "_total"), "_"+u) {
				unit = u
			}
		}
		want := row{strings.ToLower(family.GetType().String()), strings.Join(labels, ", "), unit, family.GetHelp()}
		if doc[name] != want {
			t.Errorf("docs/METRICS.md has\n%+v\nfor %s, the code\n%+v", doc[name], name, want)
			fmt.Fprintf(&missing, "| `%s` | %s | %s | %s | %s |\n", name, want.kind, want.labels, want.unit, want.meaning)
		}
		delete(doc, name)
	}
	for name := range doc {
		t.Errorf("docs/METRICS.md has %s, which is not in the code", name)
	}
	if missing.Len() > 0 {
		t.Logf("lines as the code would have them:\n%s", missing.String())
	}
}
