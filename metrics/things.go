package metrics

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// ThingSample is what a scrape tells of one Thing.
type ThingSample struct {
	Name     string  // its namespace, "" for the root
	TS       float64 // the newest update's time, seconds since 1970
	Received float64 // … and when it arrived
	Updates  uint64  // how many it had
}

// Things is the collector over all Things: it holds nothing between two
// scrapes but a buffer.
type Things struct {
	source atomic.Pointer[thingsSource]

	mu  sync.Mutex    // guards buf: one scrape at a time fills it
	buf []ThingSample // of the last scrape, reused
}

type thingsSource struct {
	max  int
	walk func(yield func(ThingSample) bool)
}

var (
	thingsDesc = prometheus.NewDesc("tbhist_things",
		"Things known.", nil, nil)
	thingsOmittedDesc = prometheus.NewDesc("tbhist_metrics_things_omitted",
		"Things without series of their own, because there are more than --metrics-things.", nil, nil)
	thingUpdateDesc = prometheus.NewDesc("tbhist_thing_last_update_timestamp_seconds",
		"The time (ts) of the Thing's newest update, as its source gave it.", []string{"thing"}, nil)
	thingReceivedDesc = prometheus.NewDesc("tbhist_thing_received_timestamp_seconds",
		"When the Thing's newest update arrived, by the broker's clock.", []string{"thing"}, nil)
	thingSkewDesc = prometheus.NewDesc("tbhist_thing_clock_skew_seconds",
		"When the Thing's newest update arrived less the time its source gave.", []string{"thing"}, nil)
	thingUpdatesDesc = prometheus.NewDesc("tbhist_thing_updates_total",
		"Updates of the Thing.", []string{"thing"}, nil)
)

// NewThings makes it on reg, or on nothing when that is nil.
func NewThings(reg prometheus.Registerer) *Things {
	t := &Things{}
	register(reg, t)
	return t
}

// Observe sets where the Things come from: the first max that walk yields
// get series of their own, the rest are only counted. walk is called at each
// scrape, yields every Thing in an order that stays the same, and may hold a
// lock while it does: nothing that waits happens in yield.
func (t *Things) Observe(max int, walk func(yield func(ThingSample) bool)) {
	t.source.Store(&thingsSource{max: max, walk: walk})
}

// Describe is part of prometheus.Collector.
func (t *Things) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		thingsDesc, thingsOmittedDesc, thingUpdateDesc,
		thingReceivedDesc, thingSkewDesc, thingUpdatesDesc,
	} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (t *Things) Collect(ch chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	samples, total := t.take()
	ch <- prometheus.MustNewConstMetric(thingsDesc, prometheus.GaugeValue, float64(total))
	ch <- prometheus.MustNewConstMetric(thingsOmittedDesc, prometheus.GaugeValue, float64(total-len(samples)))
	for i := range samples {
		s := &samples[i]
		ch <- prometheus.MustNewConstMetric(thingUpdateDesc, prometheus.GaugeValue, s.TS, s.Name)
		ch <- prometheus.MustNewConstMetric(thingReceivedDesc, prometheus.GaugeValue, s.Received, s.Name)
		ch <- prometheus.MustNewConstMetric(thingSkewDesc, prometheus.GaugeValue, s.Received-s.TS, s.Name)
		ch <- prometheus.MustNewConstMetric(thingUpdatesDesc, prometheus.CounterValue, float64(s.Updates), s.Name)
	}
}

// take walks the Things once, quickly: the walk is over before the first
// metric is handed to the registry, which may be slow to take it.
func (t *Things) take() (samples []ThingSample, total int) {
	src := t.source.Load()
	if src == nil {
		return nil, 0
	}
	t.buf = t.buf[:0]
	src.walk(func(s ThingSample) bool {
		if total++; len(t.buf) < src.max {
			t.buf = append(t.buf, s)
		}
		return true
	})
	return t.buf, total
}
