package main

import "context"

// Of the row about subscribers of one Thing each: how many, of as many
// Things, and how many updates a second there are for all together.
const (
	narrowThings = 1000
	narrowRate   = 20_000
)

// narrow measures many subscribers of one Thing each, and what it costs that
// they are there: for those who want a Thing, against one who wants
// everything, and for those whose Things get nothing, against nobody.
func narrow(ctx context.Context, b *bench, res *result) error {
	n := b.count(2 * narrowRate)
	w := b.workload(narrowThings)
	each := func(i int) [][]byte { return only(w.names[i]) }
	// Names that have much in common with those of Things that get updates.
	silent := func(i int) [][]byte { return only(w.names[i] + "-spare") }
	run := func(name string, subscribers, buffer, want int, prefixes func(i int) [][]byte) contestant {
		return contestant{name, func(ctx context.Context) (s sample, err error) {
			load := w.steady(narrowRate, n)
			err = b.fed(ctx, nil, func(br *broker, snd *sender) error {
				if err := load.introduce(ctx, br, snd); err != nil {
					return err
				}
				c, err := gather(ctx, br, load, subscribers, buffer, prefixes)
				if err != nil {
					return err
				}
				defer c.close()
				for _, l := range c.listeners {
					if want >= 0 {
						c.start(l, want, nil)
					}
				}
				if err := br.profiled(ctx, "narrow-"+name, func() error {
					s, err = c.deliver(ctx, br, snd)
					return err
				}); err != nil || want < 0 || subscribers == 0 {
					return err
				}
				s.add("", quantiles(timesOf(c.listeners, 0, n)))
				s["share"] = res.heard(name+": ", c.listeners, n)
				return nil
			})
			return s, err
		}}
	}
	got, err := b.alternate(ctx,
		run("one each", narrowThings, fewBuffer, n/narrowThings, each),
		run("everything", 1, fanBuffer, 0, everything),
		run("silent", narrowThings, fewBuffer, -1, silent),
		run("nobody", 0, 0, 0, nil))
	one, all, none := got["one each"], got["everything"], got["nobody"]
	res.figure("p50", "ms", one["p50_ms"])
	p99 := res.figure("p99", "ms", one["p99_ms"])
	res.figure("longest", "ms", one["max_ms"])
	broad := res.figure("one subscriber of everything, p99", "ms", all["p99_ms"])
	res.figure("mean of a commit", "ms", one["commit_ms"])
	own := res.figure("CPU time of the broker, 1,000 of one Thing each", "µs/update", one["cpu_us"])
	single := res.figure("CPU time of the broker, one of everything", "µs/update", all["cpu_us"])
	silently := res.figure("CPU time of the broker, 1,000 of Things that get nothing", "µs/update", got["silent"]["cpu_us"])
	alone := res.figure("CPU time of the broker, nobody", "µs/update", none["cpu_us"])
	res.cores(one)
	res.ratio("delivered / wanted", one["share"], ones(one["share"]), 1)
	res.share("p99, of 100 ms", p99, 100)
	res.ratioAtMost("p99 / that of one subscriber of everything", p99, broad, 0)
	res.ratioAtMost("CPU time: 1,000 of one Thing each / one of everything", own, single, 0)
	res.ratioAtMost("CPU time: 1,000 of Things that get nothing / nobody", silently, alone, 1.1)
	res.note("%d Things, %d updates/s for %s", narrowThings, narrowRate, lasting(n, narrowRate))
	return err
}
