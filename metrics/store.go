package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Evict is why an update left history: an index of Store.Evicted.
type Evict uint8

// The causes.
const (
	EvictCount  Evict = iota // the ring's limit by count
	EvictAge                 // … by age
	EvictBytes               // … by bytes
	EvictMaxDB               // the file's size
	EvictForget              // somebody asked for it
	evicts
)

var evictCauses = [evicts]string{"count", "age", "bytes", "max_db", "forget"}

// String gives the label.
func (e Evict) String() string {
	if e < evicts {
		return evictCauses[e]
	}
	return "unknown"
}

// Store counts what history does.
type Store struct {
	CommitSeconds prometheus.Histogram // one commit, as waited for by the pipeline
	BatchUpdates  prometheus.Histogram // updates in one commit
	CommitErrors  prometheus.Counter   // failed attempts
	Evicted       [evicts]prometheus.Counter
	Degraded      prometheus.Gauge // 1 while the disk refuses
	// DamagedRecords counts records set aside, RewrittenUpdates those that
	// reclaiming wrote again.
	DamagedRecords, RewrittenUpdates prometheus.Counter
	ClockDistrusted                  prometheus.Gauge // 1 while age evicts nothing

	stats atomic.Pointer[func() StoreStats]
}

// StoreStats is a moment's view of a history, for a scrape.
type StoreStats struct {
	LogBytes, SegmentBytes int64 // what the two take in the file
	LiveBytes              int64 // what of it is still in history
	FileBytes              int64
	FreePages              int64
	Updates                uint64 // in history
	Segments               int
}

var (
	historyLogBytes = prometheus.NewDesc("tbhist_history_log_bytes",
		"Bytes of committed batches not yet made into segments.", nil, nil)
	historySegmentBytes = prometheus.NewDesc("tbhist_history_segment_bytes",
		"Bytes of segments, updates no longer in history included.", nil, nil)
	historyLiveBytes = prometheus.NewDesc("tbhist_history_live_bytes",
		"Bytes of what is in history; what segments and log take beyond it is reclaimed in time.", nil, nil)
	historyFileBytes = prometheus.NewDesc("tbhist_history_file_bytes",
		"Size of the history file.", nil, nil)
	historyFreePages = prometheus.NewDesc("tbhist_history_free_pages",
		"Pages of 4096 bytes in the file that hold nothing.", nil, nil)
	historyUpdates = prometheus.NewDesc("tbhist_history_updates",
		"Updates in history.", nil, nil)
	historySegments = prometheus.NewDesc("tbhist_history_segments",
		"Segments in the history file.", nil, nil)
)

// NewStore makes them on reg, or on nothing when that is nil.
func NewStore(reg prometheus.Registerer) *Store {
	evicted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tbhist_updates_evicted_total",
		Help: "Updates that left history.",
	}, []string{"cause"})
	s := &Store{
		CommitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tbhist_commit_duration_seconds",
			Help: "Time until a batch was on disk.",
			// 0.25 ms on a good disk to 8 s on a tired SD card.
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}),
		BatchUpdates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tbhist_commit_batch_updates",
			Help:    "Updates committed together.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 9),
		}),
		CommitErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_commit_errors_total",
			Help: "Attempts to commit that failed; each is tried again.",
		}),
		Degraded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tbhist_degraded",
			Help: "1 while the disk refuses commits and updates are published without being kept.",
		}),
		DamagedRecords: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_damaged_records_total",
			Help: "Records of the history file found damaged and set aside.",
		}),
		RewrittenUpdates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tbhist_updates_rewritten_total",
			Help: "Updates written again to give back the space of evicted ones.",
		}),
		ClockDistrusted: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tbhist_clock_distrusted",
			Help: "1 while limits by age evict nothing because the clock may be wrong.",
		}),
	}
	for cause := range s.Evicted {
		s.Evicted[cause] = evicted.WithLabelValues(evictCauses[cause])
	}
	register(reg, evicted, s.CommitSeconds, s.BatchUpdates, s.CommitErrors,
		s.Degraded, s.DamagedRecords, s.RewrittenUpdates, s.ClockDistrusted, storeCollector{s})
	return s
}

// Observe sets where the sizes come from. f is called at each scrape, from
// any goroutine; before it is set, and after Observe(nil), they are 0.
func (s *Store) Observe(f func() StoreStats) {
	if f == nil {
		s.stats.Store(nil)
		return
	}
	s.stats.Store(&f)
}

// storeCollector reads StoreStats once for a scrape.
type storeCollector struct{ s *Store }

func (c storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		historyLogBytes, historySegmentBytes, historyLiveBytes,
		historyFileBytes, historyFreePages, historyUpdates, historySegments,
	} {
		ch <- d
	}
}

func (c storeCollector) Collect(ch chan<- prometheus.Metric) {
	var st StoreStats
	if f := c.s.stats.Load(); f != nil {
		st = (*f)()
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(historyLogBytes, float64(st.LogBytes))
	gauge(historySegmentBytes, float64(st.SegmentBytes))
	gauge(historyLiveBytes, float64(st.LiveBytes))
	gauge(historyFileBytes, float64(st.FileBytes))
	gauge(historyFreePages, float64(st.FreePages))
	gauge(historyUpdates, float64(st.Updates))
	gauge(historySegments, float64(st.Segments))
}
