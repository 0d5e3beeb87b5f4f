package main

import (
	"context"
	"runtime"
)

// Of rows about many subscribers of everything: how many, and how many
// updates a second each of them gets.
const (
	fanSubscribers = 50
	fanRate        = 15_000
	fanThings      = 1000
	// fanBuffer is what a subscriber of everything reads at most with one
	// system call, fewBuffer one of a single Thing.
	fanBuffer = 256 << 10
	fewBuffer = 4 << 10
)

// fanout measures many subscribers that all want everything.
func fanout(ctx context.Context, b *bench, res *result) error {
	n := b.count(6 * fanRate)
	got, err := b.alternate(ctx, contestant{"tbhist", func(ctx context.Context) (s sample, err error) {
		err = b.fan(ctx, "fanout", n, func(br *broker, snd *sender, c *crowd) error {
			for _, l := range c.listeners {
				c.start(l, 0, nil)
			}
			if s, err = c.deliver(ctx, br, snd); err != nil {
				return err
			}
			s.add("", quantiles(timesOf(c.listeners, 0, n)))
			s["share"] = res.heard("", c.listeners, n*fanSubscribers)
			s["cpu_us"] /= fanSubscribers
			return nil
		})
		return s, err
	}})
	own := got["tbhist"]
	res.figure("sent", "updates/s", own["rate"])
	res.figure("p50", "ms", own["p50_ms"])
	res.figure("p99", "ms", own["p99_ms"])
	res.figure("longest", "ms", own["max_ms"])
	res.figure("mean of a commit", "ms", own["commit_ms"])
	res.figure("CPU time of the broker", "µs/delivered update", own["cpu_us"])
	res.cores(own)
	res.ratio("delivered / sent", own["share"], ones(own["share"]), 1)
	res.note("%d subscribers of everything, %d updates/s for %s", fanSubscribers, fanRate, lasting(n, fanRate))
	return err
}

// fan runs f with subscribers of everything, and a profile.
func (b *bench) fan(ctx context.Context, profile string, n int, f func(br *broker, snd *sender, c *crowd) error) error {
	load := b.workload(fanThings).steady(fanRate, n)
	return b.fed(ctx, nil, func(br *broker, snd *sender) error {
		if err := load.introduce(ctx, br, snd); err != nil {
			return err
		}
		c, err := gather(ctx, br, load, fanSubscribers, fanBuffer, everything)
		if err != nil {
			return err
		}
		defer c.close()
		return br.profiled(ctx, profile, func() error { return f(br, snd, c) })
	})
}

// add adds other figures under names that begin with prefix.
func (s sample) add(prefix string, other sample) {
	for name, v := range other {
		s[prefix+name] = v
	}
}

// ones gives as many of them as there are values, for ratio.
func ones(values []float64) []float64 {
	v := make([]float64, len(values))
	for i := range v {
		v[i] = 1
	}
	return v
}

// heard gives which part of wanted updates, all together, the listeners
// heard, and notes why one heard less.
func (r *result) heard(what string, listeners []*listener, wanted int) float64 {
	n, err := heardBy(listeners)
	if err != nil {
		r.note("%s%d of %d updates: %v", what, n, wanted, err)
	}
	return float64(n) / float64(wanted)
}

// cores notes how many CPUs the broker took, and this process beside it, and
// says so where both together had all there are: then it was no longer the
// broker alone that was measured.
func (r *result) cores(own map[string][]float64) {
	broker := r.figure("CPUs that the broker took", "", own["cores"])
	harness := r.figure("CPUs that sender and subscribers took", "", own["harness_cores"])
	for i := range min(len(broker), len(harness)) {
		if sum := broker[i] + harness[i]; sum > 0.9*float64(runtime.NumCPU()) {
			r.note("round %d had no CPU left: %.0f %% of what was taken went to sender and subscribers", i+1, 100*harness[i]/sum)
		}
	}
}
