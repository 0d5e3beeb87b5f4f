package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdaptSample is how an adaptor of "tbhist adapt" is doing.
type AdaptSample struct {
	// Received counts messages of the sources, Skipped those not sent on by
	// reason, in the order of the codes that NewAdapt was given.
	Received uint64
	Skipped  []uint64
	// Sources is how many sources are connected, Connected whether the
	// broker is.
	Sources   int
	Connected bool
	// Queued is how many updates wait for the broker; Sent, Dropped and
	// Repeated count what became of others.
	Queued                  int
	Sent, Dropped, Repeated uint64
}

// NewAdapt puts an adaptor's metrics on reg. sample is called once a scrape.
func NewAdapt(reg prometheus.Registerer, reasons []string, sample func() AdaptSample) {
	a := &adapt{reasons: reasons, sample: sample}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("tbhist_adapt_"+name, help, labels, nil)
	}
	a.received = desc("messages_received_total", "Messages from the sources of tbhist adapt.")
	a.skipped = desc("messages_skipped_total", "Messages from the sources that were not sent on to the broker.", "reason")
	a.sources = desc("sources_connected", "Sources that are connected.")
	a.connected = desc("broker_connected", "1 while the broker listens.")
	a.queued = desc("queued_updates", "Updates that wait for the broker.")
	a.sent = desc("updates_sent_total", "Updates that the network took for the broker.")
	a.dropped = desc("updates_dropped_total", "Updates dropped, the oldest first, because too many waited for the broker.")
	a.repeated = desc("updates_repeated_total", "Updates sent again because a connection broke while they were being sent: the broker may have them twice.")
	register(reg, a)
}

// AdaptHandler answers scrapes of an adaptor: its own metrics and those of
// its process.
func AdaptHandler(reasons []string, sample func() AdaptSample) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	NewAdapt(reg, reasons, sample)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 2})
}

// adapt is a prometheus.Collector.
type adapt struct {
	reasons []string
	sample  func() AdaptSample

	received, skipped, sources, connected, queued, sent, dropped, repeated *prometheus.Desc
}

// Describe is part of prometheus.Collector.
func (a *adapt) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{a.received, a.skipped, a.sources, a.connected, a.queued, a.sent, a.dropped, a.repeated} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (a *adapt) Collect(ch chan<- prometheus.Metric) {
	s := a.sample()
	connected := 0.0
	if s.Connected {
		connected = 1
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter(a.received, s.Received)
	for i, reason := range a.reasons {
		counter(a.skipped, s.Skipped[i], reason)
	}
	gauge(a.sources, float64(s.Sources))
	gauge(a.connected, connected)
	gauge(a.queued, float64(s.Queued))
	counter(a.sent, s.Sent)
	counter(a.dropped, s.Dropped)
	counter(a.repeated, s.Repeated)
}
