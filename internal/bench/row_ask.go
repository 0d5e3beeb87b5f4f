package main

import (
	"context"
	"fmt"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// ask compares questions about a small part of history with reading all.
func ask(ctx context.Context, b *bench, res *result) error {
	const things = 10_000
	n := b.count(1_000_000)
	w := b.workload(things)
	return b.filled(ctx, w, n, nil, func(br *broker) error {
		a, err := br.asker(ctx)
		if err != nil {
			return err
		}
		defer a.close()
		after, one := uint64(n-n/100), uint64(1)
		_, _, line, err := a.ask(ctx, wire.Request{After: &after, Limit: &one})
		if err != nil {
			return err
		}
		m, err := wire.ParseMessage(line)
		if err != nil {
			return err
		}
		since, alone := m.Update.Received, false
		asking := func(least, most int, r func() wire.Request) func(context.Context) (sample, error) {
			return func(ctx context.Context) (sample, error) {
				count, took, _, err := a.ask(ctx, r())
				if err == nil && (count < least || count > most) {
					err = fmt.Errorf("%d updates, expected were %d to %d", count, least, most)
				}
				return sample{"ms": float64(took) / float64(time.Millisecond)}, err
			}
		}
		turn := 0
		got, err := b.alternate(ctx,
			contestant{"all", asking(n, n, func() wire.Request { return wire.Request{} })},
			contestant{"one Thing", asking(n/things, n/things+1, func() wire.Request {
				turn++
				name := thing.Name(w.names[turn*7919%min(n, things)])
				return wire.Request{NS: &name, Tree: &alone}
			})},
			// What arrived together has one time: a batch more may be there.
			contestant{"newest hundredth", asking(n/100, n/10, func() wire.Request { return wire.Request{Since: &since} })})
		all := res.figure("all", "ms", got["all"]["ms"])
		few := res.figure("one Thing", "ms", got["one Thing"]["ms"])
		newest := res.figure("since, the newest hundredth", "ms", got["newest hundredth"]["ms"])
		res.ratio("one Thing of 10,000: times faster than all", all, few, 20)
		res.ratio("since, the newest hundredth: times faster than all", all, newest, 20)
		res.note("%d updates, pages of 4 MiB", n)
		return err
	})
}
