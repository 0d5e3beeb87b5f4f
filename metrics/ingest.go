package metrics

import "github.com/prometheus/client_golang/prometheus"

// Ingest counts what comes in.
type Ingest struct {
	// Accepted counts by transport.
	Accepted []prometheus.Counter
	// Refused counts by transport, then reason.
	Refused [][]prometheus.Counter
	// Values that no JSON parser would take and that were replaced.
	NormalisedNonfinite, NormalisedSurrogate prometheus.Counter
	// UDPKernelDrops counts datagrams that never reached the program.
	UDPKernelDrops prometheus.Counter
	// HeldBack counts how often a connection was not read for a while.
	HeldBack prometheus.Counter
}

// NewIngest makes them on reg, or on nothing when that is nil.
func NewIngest(reg prometheus.Registerer, transports, reasons []string) *Ingest {
	accepted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tbhist_updates_accepted_total",
		Help: "Updates taken from adaptors.",
	}, []string{"transport"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tbhist_updates_refused_total",
		Help: "Messages from adaptors that were not taken.",
	}, []string{"transport", "reason"})
	normalised := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tbhist_updates_normalised_total",
		Help: "Values inside accepted updates that were replaced to make valid JSON: numbers that are not finite by null, lone surrogates by U+FFFD.",
	}, []string{"kind"})
	drops := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tbhist_udp_kernel_drops_total",
		Help: "Datagrams to the input that the kernel dropped because the receive buffer was full; counted on Linux only.",
	})
	held := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tbhist_input_held_back_total",
		Help: "Times that a ZeroMQ connection was not read for a while because its address had sent more than --input-rate.",
	})
	register(reg, accepted, refused, normalised, drops, held)
	m := &Ingest{
		Accepted:            perValue(accepted, transports),
		Refused:             make([][]prometheus.Counter, len(transports)),
		NormalisedNonfinite: normalised.WithLabelValues("nonfinite"),
		NormalisedSurrogate: normalised.WithLabelValues("surrogate"),
		UDPKernelDrops:      drops,
		HeldBack:            held,
	}
	for i, transport := range transports {
		m.Refused[i] = perValue(refused.MustCurryWith(prometheus.Labels{"transport": transport}), reasons)
	}
	return m
}

// Connections counts connections that were not let in.
type Connections struct{ refused *prometheus.CounterVec }

// NewConnections makes them on reg, or on nothing when that is nil, with
// every listener and reason at 0.
func NewConnections(reg prometheus.Registerer, listeners, reasons []string) *Connections {
	c := &Connections{refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tbhist_connections_refused_total",
		Help: "Connections (for udp: datagrams) that a listener did not let in or closed for breaking its rules.",
	}, []string{"listener", "reason"})}
	for _, listener := range listeners {
		for _, reason := range reasons {
			c.refused.WithLabelValues(listener, reason)
		}
	}
	register(reg, c.refused)
	return c
}

// Refused counts one. Both must be of the fixed lists.
func (c *Connections) Refused(listener, reason string) {
	c.refused.WithLabelValues(listener, reason).Inc()
}

// Listener gives the counting function of one listener.
func (c *Connections) Listener(listener string) func(reason string) {
	return func(reason string) { c.Refused(listener, reason) }
}
