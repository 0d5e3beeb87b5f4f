package metrics

import (
	"strconv"
	"sync/atomic"
)

// ThingSample is what a scrape tells of one Thing.
type ThingSample struct {
	Name     string  // its namespace, "" for the root
	TS       float64 // the newest update's time, seconds since 1970
	Received float64 // … and when it arrived
	Updates  uint64  // how many it had
}

// Things are the series of all Things. There may be very many, and the
// registry would hold each of them several times over while it gathers: they
// are written as text behind what the registry gives, see Metrics.Handler.
type Things struct {
	source atomic.Pointer[thingsSource]
}

type thingsSource struct {
	max  int
	walk func(yield func(ThingSample) bool)
}

// NewThings makes it; without Observe there are none.
func NewThings() *Things { return &Things{} }

// Observe sets where the Things come from: the first max that walk yields
// get series of their own, the rest are only counted. walk is called at each
// scrape, yields every Thing in an order that stays the same, and may hold a
// lock while it does: nothing that waits happens in yield.
func (t *Things) Observe(max int, walk func(yield func(ThingSample) bool)) {
	t.source.Store(&thingsSource{max: max, walk: walk})
}

// take walks the Things once, quickly: the walk is over before the first
// byte goes to a scraper, which may be slow to take it. It appends to
// samples those that get series, and counts all.
func (t *Things) take(samples []ThingSample) (_ []ThingSample, total int) {
	src := t.source.Load()
	if src == nil {
		return samples, 0
	}
	most := len(samples) + src.max
	src.walk(func(s ThingSample) bool {
		if total++; len(samples) < most {
			samples = append(samples, s)
		}
		return true
	})
	return samples, total
}

// thingFamilies have a series for each Thing.
var thingFamilies = []struct {
	name, help, kind string
	value            func(dst []byte, s *ThingSample) []byte
}{
	{
		"tbhist_thing_last_update_timestamp_seconds",
		"The time (ts) of the Thing's newest update, as its source gave it.", "gauge",
		func(dst []byte, s *ThingSample) []byte { return appendFloat(dst, s.TS) },
	},
	{
		"tbhist_thing_received_timestamp_seconds",
		"When the Thing's newest update arrived, by the broker's clock.", "gauge",
		func(dst []byte, s *ThingSample) []byte { return appendFloat(dst, s.Received) },
	},
	{
		"tbhist_thing_clock_skew_seconds",
		"When the Thing's newest update arrived less the time its source gave.", "gauge",
		func(dst []byte, s *ThingSample) []byte { return appendFloat(dst, s.Received-s.TS) },
	},
	{
		"tbhist_thing_updates_total",
		"Updates of the Thing.", "counter",
		func(dst []byte, s *ThingSample) []byte { return strconv.AppendUint(dst, s.Updates, 10) },
	},
}

// writeThings writes the series of the samples, of total Things, to p: each
// family in one piece, as the format demands.
func writeThings(p *textWriter, samples []ThingSample, total int) {
	p.head("tbhist_things", "Things known.", "gauge")
	p.single("tbhist_things", total)
	p.head("tbhist_metrics_things_omitted",
		"Things without series of their own, because there are more than --metrics-things.", "gauge")
	p.single("tbhist_metrics_things_omitted", total-len(samples))
	for _, f := range thingFamilies {
		if len(samples) > 0 {
			p.head(f.name, f.help, f.kind)
		}
		begin := f.name + `{thing="`
		for i := range samples {
			if p.err != nil {
				return // the scraper has gone
			}
			p.buf = append(p.buf, begin...)
			p.buf = appendLabel(p.buf, samples[i].Name)
			p.buf = append(p.buf, `"} `...)
			p.buf = append(f.value(p.buf, &samples[i]), '\n')
			p.room()
		}
	}
}
