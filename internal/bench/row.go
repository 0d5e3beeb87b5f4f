package main

import (
	"context"
	"fmt"
)

// row is one question that is measured.
type row struct {
	name, about string
	full        bool // only with -full
	run         func(ctx context.Context, b *bench, res *result) error
}

// rows are all there are, in the order in which they are run.
var rows = []row{
	{"throughput", "durable and delivered, 1,000 Things, against the peers and the floor", false, throughput},
	{"things", "durable and delivered, 100,000 Things against 1,000", false, manyThings},
	{"turning", "rings that are full and turning against rings that fill", false, turning},
	{"latency", "from the sender to the subscriber at 1,000/s, against a bare commit", false, latency},
	{"replay", "from disk to client, against JetStream's ordered consumer", false, replay},
	{"ask", "one Thing, and the newest hundredth, against reading all", false, ask},
	{"metrics", "a scrape with 100,000 Things, and what it does to a live feed", false, scraping},
	{"space", "bytes on disk and anonymous memory, 10,000 Things × 100", false, space},
	{"fanout", "50 subscribers of everything at 15,000/s: delivered, and how late", false, fanout},
	{"narrow", "1,000 subscribers of one Thing each at 20,000/s, against one of everything and none", false, narrow},
	{"slowfan", "fanout with 10 that read at a tenth of the rate for a while, against fanout", true, slowfan},
	{"snapshots", "how late updates are at 20,000/s while 10,000 Things are sent as snapshots", true, snapshots},
	{"udp", "share of 50,000 datagrams/s that is kept over 20 s", true, udp},
	{"thingspeers", "durable and delivered, 100,000 Things, against JetStream", true, manyThingsPeers},
	{"spacefull", "bytes on disk and anonymous memory, 10,000 Things × 1,000", true, spaceFull},
	{"restart", "start to first snapshot, 10,000 Things × 1,000, against JetStream", true, restart},
	{"plateau", "size of the file after ten turns of all rings", true, plateau},
	{"device", "bytes to the device at 10/s and 200/s, gathered and not", true, device},
	{"soak", "anonymous memory over half an hour of 20,000/s, 10,000 Things × 1,000", true, soak},
}

// result is what came of a row.
type result struct {
	Row     string   `json:"row"`
	Ratios  []ratio  `json:"ratios,omitempty"`
	Figures []figure `json:"figures,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	Seconds float64  `json:"seconds"`
	// Steal is the share of CPU time that went to other machines, Load how
	// many wanted a CPU, in the last minute of the row.
	Steal float64 `json:"steal_percent"`
	Load  float64 `json:"load"`
}

// ratio compares two figures of one run: the median of what each round gave,
// with the least and the most. What the machine does beside changes from
// minute to minute, and meets both figures of one round. Wanted is what is aimed at: at
// least, or if AtMost, at most; 0 for nothing in particular.
type ratio struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
	Wanted float64 `json:"wanted,omitempty"`
	AtMost bool    `json:"at_most,omitempty"`
}

// figure is a median with the least and the most of its rounds.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

func (r *result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// ratio notes a/b, round by round, if both were measured.
func (r *result) ratio(name string, a, b []float64, wanted float64) {
	r.compare(ratio{Name: name, Wanted: wanted}, a, b)
}

// ratioAtMost is ratio for one that shall be small.
func (r *result) ratioAtMost(name string, a, b []float64, wanted float64) {
	r.compare(ratio{Name: name, Wanted: wanted, AtMost: true}, a, b)
}

// share notes a in parts of what it may be at most.
func (r *result) share(name string, a []float64, most float64) {
	b := make([]float64, len(a))
	for i := range b {
		b[i] = most
	}
	r.ratioAtMost(name, a, b, 1)
}

func (r *result) compare(f ratio, a, b []float64) {
	var each []float64
	for i := range min(len(a), len(b)) {
		if a[i] > 0 && b[i] > 0 {
			each = append(each, a[i]/b[i])
		}
	}
	if len(each) > 0 {
		f.Least, f.Value, f.Most = spread(each)
		r.Ratios = append(r.Ratios, f)
	}
}

// figure notes what the rounds gave, and gives it back.
func (r *result) figure(name, unit string, values []float64) []float64 {
	if len(values) == 0 {
		return nil
	}
	f := figure{Name: name, Unit: unit}
	f.Least, f.Value, f.Most = spread(values)
	r.Figures = append(r.Figures, f)
	return values
}
