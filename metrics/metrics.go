// Package metrics holds every metric of the broker: its name, help and
// labels, on a registry of its own but for the series of each Thing.
// Components get a struct of ready counters; what is looked up at a scrape
// is handed over as a function. It knows nothing of the rest of the program:
// lists of label values come in as strings, and counters are found by their
// index in these lists.
package metrics

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options are the label values that other packages decide.
type Options struct {
	// Version is the program's, for the build info.
	Version string
	// Transports and RefuseReasons name the ways in and the reasons for
	// which an update is refused, in the order of the indexes that
	// Ingest.Accepted and Ingest.Refused are used with.
	Transports, RefuseReasons []string
	// Listeners and ConnReasons name the listening sockets and the reasons
	// for which they refuse a connection.
	Listeners, ConnReasons []string
}

// Metrics is all of them. Every series with a known set of label values is
// there, at 0, from the first scrape on.
type Metrics struct {
	// Registry has all but the Things, which are written beside it.
	Registry *prometheus.Registry

	Ingest      *Ingest
	Connections *Connections
	Store       *Store
	Publish     *Publish
	Snapshot    *Snapshot
	History     *History
	Things      *Things
}

// New makes the registry and everything on it.
func New(o Options) *Metrics {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "tbhist_build_info",
		Help: "Always 1; the labels tell which program runs.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(o.Version, runtime.Version()).Set(1)
	reg.MustRegister(build)

	return &Metrics{
		Registry:    reg,
		Ingest:      NewIngest(reg, o.Transports, o.RefuseReasons),
		Connections: NewConnections(reg, o.Listeners, o.ConnReasons),
		Store:       NewStore(reg),
		Publish:     NewPublish(reg),
		Snapshot:    NewSnapshot(reg),
		History:     NewHistory(reg),
		Things:      NewThings(),
	}
}

// ObserveThings is Things.Observe.
func (m *Metrics) ObserveThings(max int, things func(yield func(ThingSample) bool)) {
	m.Things.Observe(max, things)
}

// register puts the collectors on reg; a nil reg leaves them off, for a
// component that runs by itself.
func register(reg prometheus.Registerer, cs ...prometheus.Collector) {
	if reg != nil {
		reg.MustRegister(cs...)
	}
}

// perValue makes a counter for each value of the one label.
func perValue(v *prometheus.CounterVec, values []string) []prometheus.Counter {
	counters := make([]prometheus.Counter, len(values))
	for i, value := range values {
		counters[i] = v.WithLabelValues(value)
	}
	return counters
}
