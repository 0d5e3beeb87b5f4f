package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Publish counts what goes out on the live feed.
type Publish struct {
	Subscribers   prometheus.Gauge   // connections with at least one subscription
	Delivered     prometheus.Counter // updates written to subscribers
	FromHistory   prometheus.Counter // those of them read back from history
	Skipped       prometheus.Counter // matching updates passed over for a subscriber beyond the greatest lag
	Unkept        prometheus.Counter // updates published with seq null
	WriteDeadline prometheus.Counter // subscribers closed for taking nothing

	lag atomic.Pointer[func() float64]
}

// NewPublish makes them on reg, or on nothing when that is nil.
func NewPublish(reg prometheus.Registerer) *Publish {
	p := &Publish{
		Subscribers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tbhist_subscribers",
			Help: "Subscribers of the live feed.",
		}),
		Delivered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_updates_delivered_total",
			Help: "Updates sent to subscribers of the live feed, each counted once per subscriber.",
		}),
		FromHistory: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_updates_served_from_history_total",
			Help: "Updates of the live feed that were read back from history for a subscriber that was behind.",
		}),
		Skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_subscriber_skipped_total",
			Help: "Updates passed over for a subscriber that was too far behind, each counted once per subscriber.",
		}),
		Unkept: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_updates_unkept_total",
			Help: "Updates published without being kept because the disk refused them.",
		}),
		WriteDeadline: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_subscribers_disconnected_total",
			Help: "Subscribers disconnected because they took nothing for the write deadline.",
		}),
	}
	lag := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tbhist_subscriber_lag_seconds",
		Help: "How far the slowest subscriber is behind: now less the time its next update was received; 0 when all have caught up.",
	}, func() float64 {
		if f := p.lag.Load(); f != nil {
			return (*f)()
		}
		return 0
	})
	register(reg, p.Subscribers, p.Delivered, p.FromHistory, p.Skipped, p.Unkept, p.WriteDeadline, lag)
	return p
}

// ObserveLag sets where the slowest subscriber's lag, in seconds, comes
// from. f is called at each scrape, from any goroutine.
func (p *Publish) ObserveLag(f func() float64) { p.lag.Store(&f) }

// Snapshot measures snapshots of the directory.
type Snapshot struct {
	Bytes   prometheus.Gauge     // of the newest one
	Seconds prometheus.Histogram // to make one
}

// NewSnapshot makes them on reg, or on nothing when that is nil.
func NewSnapshot(reg prometheus.Registerer) *Snapshot {
	s := &Snapshot{
		Bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tbhist_snapshot_bytes",
			Help: "Size of the newest snapshot, all its parts together.",
		}),
		Seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tbhist_snapshot_duration_seconds",
			Help:    "Time to make a snapshot.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}),
	}
	register(reg, s.Bytes, s.Seconds)
	return s
}

// Observe notes one snapshot.
func (s *Snapshot) Observe(bytes int, took time.Duration) {
	s.Bytes.Set(float64(bytes))
	s.Seconds.Observe(took.Seconds())
}

// History counts what is asked of the history service.
type History struct {
	Pages, Updates prometheus.Counter // of replay answers

	requests, errors map[string]prometheus.Counter
}

// The label values of History.Request and History.Error; anything else
// counts as the last.
var (
	historyRequests = []string{"replay", "directory", "refused", "other"}
	historyErrors   = []string{"bad_request", "epoch_changed", "too_large", "busy", "unavailable", "other"}
)

// NewHistory makes them on reg, or on nothing when that is nil.
func NewHistory(reg prometheus.Registerer) *History {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tbhist_history_requests_total",
		Help: "Requests to the history service.",
	}, []string{"type"})
	errs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tbhist_history_errors_total",
		Help: "Requests to the history service that were answered with an error.",
	}, []string{"code"})
	h := &History{
		Pages: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_replay_pages_total",
			Help: "Pages of replay answers.",
		}),
		Updates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_replay_updates_total",
			Help: "Updates in replay answers.",
		}),
		requests: byValue(requests, historyRequests),
		errors:   byValue(errs, historyErrors),
	}
	register(reg, requests, errs, h.Pages, h.Updates)
	return h
}

// Request counts one of type replay, directory or refused; what is none of
// these counts as other.
func (h *History) Request(kind string) { inc(h.requests, kind) }

// Error counts an answer with one of the codes of docs/PROTOCOL.md.
func (h *History) Error(code string) { inc(h.errors, code) }

func byValue(v *prometheus.CounterVec, values []string) map[string]prometheus.Counter {
	m := make(map[string]prometheus.Counter, len(values))
	for _, value := range values {
		m[value] = v.WithLabelValues(value)
	}
	return m
}

func inc(m map[string]prometheus.Counter, value string) {
	c, ok := m[value]
	if !ok {
		c = m["other"]
	}
	c.Inc()
}
