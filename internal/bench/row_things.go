package main

import "context"

// manyThings compares many Things with few, all of them known before.
func manyThings(ctx context.Context, b *bench, res *result) error {
	before, n := b.count(100_000), b.count(300_000)
	tbhist := func(name string, things int) contestant {
		return contestant{name, func(ctx context.Context) (sample, error) {
			return b.liveRate(ctx, name, []string{"--ring", "1000"}, b.workload(things), before, before+n)
		}}
	}
	got, err := b.alternate(ctx, tbhist("things-1000", 1000), tbhist("things-100000", 100_000))
	few := res.figure("1,000 Things", "updates/s", got["things-1000"]["rate"])
	many := res.figure("100,000 Things", "updates/s", got["things-100000"]["rate"])
	res.figure("1,000 Things, longest pause", "ms", got["things-1000"]["pause_ms"])
	res.figure("100,000 Things, longest pause", "ms", got["things-100000"]["pause_ms"])
	res.figure("1,000 Things, CPU time of the broker", "µs/update", got["things-1000"]["cpu_us"])
	res.figure("100,000 Things, CPU time of the broker", "µs/update", got["things-100000"]["cpu_us"])
	res.ratio("100,000 Things / 1,000 Things", many, few, 0.8)
	return err
}

// manyThingsPeers compares many Things with JetStream.
func manyThingsPeers(ctx context.Context, b *bench, res *result) error {
	before, n := b.count(100_000), b.count(300_000)
	w := b.workload(100_000)
	got, err := b.alternate(ctx,
		contestant{"tbhist", func(ctx context.Context) (sample, error) {
			return b.liveRate(ctx, "thingspeers", []string{"--ring", "1000"}, w, before, before+n)
		}},
		contestant{"JetStream", func(ctx context.Context) (sample, error) {
			return b.natsLive(ctx, false, 1000, w, before, before+n)
		}})
	own := res.figure("tbhist", "updates/s", got["tbhist"]["rate"])
	peer := res.figure("JetStream", "updates/s", got["JetStream"]["rate"])
	res.ratio("tbhist / JetStream that does not sync", own, peer, 4)
	return err
}
