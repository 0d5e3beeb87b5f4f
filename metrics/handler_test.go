package metrics

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// parsed reads a scrape as Prometheus' own reader of the text format does.
func parsed(t testing.TB, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return families
}

// asked gives the answer to a scrape with these headers, name after value.
func asked(h http.Handler, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/metrics", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// All that is written is read as what was meant, names that no Thing can
// have included.
func TestWholeScrapeParses(t *testing.T) {
	m := New(testOptions)
	samples := []ThingSample{
		{Name: "", TS: 0, Received: 1.795e9, Updates: 0},
		{Name: "shop.door", TS: 1795000000.123456, Received: 1795000000.25, Updates: 12345678901234567},
		{Name: "quote\"backslash\\newline\nall\\n\"", TS: -1.5e-7, Received: 3, Updates: 1},
		{Name: "größe", TS: 9e15, Received: 1, Updates: 2},
	}
	m.ObserveThings(len(samples), func(yield func(ThingSample) bool) {
		for _, s := range samples {
			yield(s)
		}
		yield(ThingSample{Name: "beyond"})
	})
	text := asked(m.Handler()).Body.String()
	families := parsed(t, text)
	for name := range families {
		for _, comment := range []string{"# HELP " + name + " ", "# TYPE " + name + " "} {
			if n := strings.Count("\n"+text, "\n"+comment); n != 1 {
				t.Errorf("%q comes %d times", comment, n)
			}
		}
	}
	gauge := func(s *dto.Metric) float64 { return s.GetGauge().GetValue() }
	counter := func(s *dto.Metric) float64 { return s.GetCounter().GetValue() }
	for name, f := range map[string]struct {
		of   func(*dto.Metric) float64
		want func(ThingSample) float64
	}{
		"tbhist_thing_last_update_timestamp_seconds": {gauge, func(s ThingSample) float64 { return s.TS }},
		"tbhist_thing_received_timestamp_seconds":    {gauge, func(s ThingSample) float64 { return s.Received }},
		"tbhist_thing_clock_skew_seconds":            {gauge, func(s ThingSample) float64 { return s.Received - s.TS }},
		"tbhist_thing_updates_total":                 {counter, func(s ThingSample) float64 { return float64(s.Updates) }},
	} {
		series := families[name].GetMetric()
		if len(series) != len(samples) {
			t.Errorf("%s has %d series for %d Things", name, len(series), len(samples))
			continue
		}
		for i, s := range samples {
			label := series[i].GetLabel()[0]
			if label.GetName() != "thing" || label.GetValue() != s.Name || f.of(series[i]) != f.want(s) {
				t.Errorf("%s of %q is %v of %q, not %v", name, s.Name, f.of(series[i]), label.GetValue(), f.want(s))
			}
		}
	}
	if n := families["tbhist_things"].GetMetric()[0].GetGauge().GetValue(); n != 5 {
		t.Errorf("%v Things, not 5", n)
	}
	if n := families["tbhist_metrics_things_omitted"].GetMetric()[0].GetGauge().GetValue(); n != 1 {
		t.Errorf("%v Things omitted, not 1", n)
	}
	if families["go_goroutines"] == nil || families["tbhist_degraded"] == nil {
		t.Error("what is on the registry is not there")
	}
}

// Whatever form is asked for, text is the answer.
func TestForms(t *testing.T) {
	m := New(testOptions)
	m.ObserveThings(50, someThings(50))
	h := m.Handler()
	for _, accept := range []string{
		"", "text/plain", "*/*", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;q=0.3",
	} {
		for _, coding := range []string{"", "identity", "gzip", "zstd, gzip;q=0.5", "deflate,GZIP ; q=0.1", "gzip;q=0", "zstd", "gzip; q=x"} {
			w := asked(h, "Accept", accept, "Accept-Encoding", coding)
			if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4; charset=utf-8") {
				t.Errorf("Accept %q is answered with %q", accept, got)
			}
			zipped := slices.Contains([]string{"gzip", "zstd, gzip;q=0.5", "deflate,GZIP ; q=0.1"}, coding)
			if got := w.Header().Get("Content-Encoding"); (got == "gzip") != zipped || !zipped && got != "" {
				t.Errorf("Accept-Encoding %q is answered with %q", coding, got)
			}
			if got := w.Header().Get("Vary"); got != "Accept-Encoding" {
				t.Errorf("Vary is %q", got)
			}
			body := io.Reader(w.Body)
			if zipped {
				var err error
				if body, err = gzip.NewReader(w.Body); err != nil {
					t.Fatal(err)
				}
			}
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(text, []byte("\ntbhist_thing_updates_total{")); n != 50 {
				t.Errorf("Accept %q, Accept-Encoding %q: %d Things", accept, coding, n)
			}
		}
	}
}

// heldWriter takes nothing until it is let go, like a scraper behind a slow
// network; begun tells of the first write.
type heldWriter struct {
	*httptest.ResponseRecorder
	begin      func()
	letGo      <-chan struct{}
	writes     int
	failsAfter int
}

func (w *heldWriter) Write(p []byte) (int, error) {
	w.begin()
	<-w.letGo
	if w.writes++; w.writes > w.failsAfter {
		return 0, errors.New("gone")
	}
	return w.ResponseRecorder.Write(p)
}

// The walk may hold a lock that the whole broker needs: it is over before a
// slow scraper takes the first byte. When as many as may be are slow, one
// more waits; it is sent away when nothing helps, and those before it do not
// see its answer.
func TestSlowScrapers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(testOptions)
		walks, letGo, begun := make(chan struct{}, maxScrapes+1), make(chan struct{}), make(chan struct{}, maxScrapes)
		m.ObserveThings(2000, func(yield func(ThingSample) bool) {
			someThings(2000)(yield)
			walks <- struct{}{}
		})
		h := m.Handler()
		var slow []*heldWriter
		var answering sync.WaitGroup
		for range maxScrapes {
			w := &heldWriter{
				ResponseRecorder: httptest.NewRecorder(), letGo: letGo, failsAfter: 1000,
				begin: sync.OnceFunc(func() { begun <- struct{}{} }),
			}
			slow = append(slow, w)
			answering.Go(func() { h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil)) })
		}
		for range maxScrapes {
			<-walks
			<-begun
		}
		if w := asked(h); w.Code != http.StatusServiceUnavailable {
			t.Errorf("one more is answered with %d", w.Code)
		}
		close(letGo)
		answering.Wait()
		for _, w := range slow {
			if n := len(parsed(t, w.Body.String())["tbhist_thing_updates_total"].GetMetric()); n != 2000 {
				t.Errorf("a slow one has %d Things", n)
			}
		}
		if w := asked(h); w.Code != http.StatusOK {
			t.Errorf("after them one is answered with %d", w.Code)
		}
	})
}

// cutWriter takes nothing until a deadline ends it, like a connection.
type cutWriter struct {
	*httptest.ResponseRecorder
	cut chan struct{}
	end func() // closes cut
}

func newCutWriter() *cutWriter {
	w := &cutWriter{ResponseRecorder: httptest.NewRecorder(), cut: make(chan struct{})}
	w.end = sync.OnceFunc(func() { close(w.cut) })
	return w
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if w.Code == http.StatusServiceUnavailable {
		return len(p), nil
	}
	<-w.cut
	return 0, errors.New("deadline exceeded")
}

func (w *cutWriter) SetWriteDeadline(time.Time) error {
	w.end()
	return nil
}

// Scrapers that take nothing make room for others, the slowest first. With
// more waiting than that helps, the rest is sent away at once.
func TestSlowScrapersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(testOptions).Handler()
		var answering sync.WaitGroup
		var slow []*cutWriter
		for range maxScrapes {
			w := newCutWriter()
			slow = append(slow, w)
			answering.Go(func() { h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil)) })
			synctest.Wait()
			<-time.After(time.Millisecond)
		}
		if w := asked(h); w.Code != http.StatusOK {
			t.Errorf("one more is answered with %d", w.Code)
		}
		for i, w := range slow {
			select {
			case <-w.cut:
				if i != 0 {
					t.Errorf("scraper %d was cut off", i)
				}
			default:
				if i == 0 {
					t.Error("the slowest was not cut off")
				}
			}
		}
		for _, w := range slow {
			w.end()
		}
		answering.Wait()

		var away atomic.Int64
		for range maxScrapes + maxWaiting + 5 {
			w := newCutWriter()
			slow = append(slow, w)
			answering.Go(func() {
				h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
				if w.Code == http.StatusServiceUnavailable {
					away.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := away.Load(); n != 5 {
			t.Errorf("with %d waiting %d were sent away", maxWaiting, n)
		}
		for _, w := range slow {
			w.end()
		}
		answering.Wait()
		if w := asked(h); w.Code != http.StatusOK {
			t.Errorf("after them one is answered with %d", w.Code)
		}
	})
}

// A scraper that goes away ends its answer, and does not spoil the next.
func TestScraperGone(t *testing.T) {
	m := New(testOptions)
	m.ObserveThings(2000, someThings(2000))
	h, open := m.Handler(), make(chan struct{})
	close(open)
	for _, coding := range []string{"", "gzip"} {
		w := &heldWriter{ResponseRecorder: httptest.NewRecorder(), letGo: open, begin: func() {}, failsAfter: 1}
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept-Encoding", coding)
		h.ServeHTTP(w, r)
		if w.writes != 2 {
			t.Errorf("%q: %d writes to one that was gone at the second", coding, w.writes)
		}
		if n := len(parsed(t, asked(h).Body.String())["tbhist_thing_updates_total"].GetMetric()); n != 2000 {
			t.Errorf("%q: the next has %d Things", coding, n)
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{5000, 100_000} {
		for _, coding := range []string{"identity", "gzip"} {
			b.Run(fmt.Sprintf("%d/%s", n, coding), func(b *testing.B) {
				m := New(testOptions)
				samples := make([]ThingSample, 0, n)
				someThings(n)(func(s ThingSample) bool { samples = append(samples, s); return true })
				for i := range samples { // digits as in real times
					samples[i].TS = 1.795e9 + float64(i)*1.000001
					samples[i].Received = samples[i].TS + 0.001234
				}
				m.ObserveThings(n, func(yield func(ThingSample) bool) {
					for _, s := range samples {
						if !yield(s) {
							return
						}
					}
				})
				h := m.Handler()
				r := httptest.NewRequest("GET", "/metrics", nil)
				r.Header.Set("Accept-Encoding", coding)
				for b.Loop() {
					w := &countingWriter{header: http.Header{}}
					h.ServeHTTP(w, r)
					b.ReportMetric(float64(w.bytes), "bytes")
				}
			})
		}
	}
}

// countingWriter throws the answer away.
type countingWriter struct {
	header http.Header
	bytes  int
}

func (w *countingWriter) Header() http.Header { return w.header }
func (w *countingWriter) WriteHeader(int)     {}
func (w *countingWriter) Write(p []byte) (int, error) {
	w.bytes += len(p)
	return len(p), nil
}
