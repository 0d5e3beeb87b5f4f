package main

import (
	"context"
	"strconv"
)

// turning compares rings in which every update evicts another with rings
// that still fill, after the same number of updates.
func turning(ctx context.Context, b *bench, res *result) error {
	const things = 1000
	before, n := b.count(400_000), b.count(300_000)
	tbhist := func(name string, ring int) contestant {
		return contestant{name, func(ctx context.Context) (sample, error) {
			return b.liveRate(ctx, name, []string{"--ring", strconv.Itoa(ring)}, b.workload(things), before, before+n)
		}}
	}
	ring := before / things / 2
	got, err := b.alternate(ctx, tbhist("filling", 1_000_000), tbhist("turning", ring))
	filling := res.figure("filling", "updates/s", got["filling"]["rate"])
	turns := res.figure("turning", "updates/s", got["turning"]["rate"])
	res.figure("filling, longest pause", "ms", got["filling"]["pause_ms"])
	pause := res.figure("turning, longest pause", "ms", got["turning"]["pause_ms"])
	res.figure("filling, CPU time of the broker", "µs/update", got["filling"]["cpu_us"])
	res.figure("turning, CPU time of the broker", "µs/update", got["turning"]["cpu_us"])
	res.ratio("turning / filling", turns, filling, 0.8)
	res.share("longest pause while turning, of 100 ms", pause, 100)
	res.note("1,000 Things, rings of %d turned twice before", ring)
	return err
}
