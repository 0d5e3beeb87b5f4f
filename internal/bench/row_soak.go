package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

const (
	soakPerSecond = 20_000
	// soakSettles is the part of the time after which memory shall be flat:
	// five minutes of thirty.
	soakSettles = 6
	soakMinutes = 30 // parts of the time, each with a line
	soakAsked   = 10 // Things asked for in each
	soakReplay  = 200_000
)

// soak watches the memory of a broker with full rings under a steady load,
// with replays and scrapes now and then.
func soak(ctx context.Context, b *bench, res *result) error {
	n := b.count(10_000_000)
	w := b.workload(spaceThings)
	part := max(time.Duration(float64(b.soak)*b.scale)/soakMinutes, 100*time.Millisecond).Truncate(time.Millisecond)
	perPart := int(part.Milliseconds()) * soakPerSecond / 1000
	var anon, pauses, p99s []float64
	err := b.live(ctx, []string{"--ring", fmt.Sprint(n / spaceThings), "--max-db", "8GiB"}, func(br *broker, snd *sender, sub *subscriber) error {
		if _, err := pump(ctx, snd, sub, w, 0, n); err != nil {
			return err
		}
		pid := br.cmd.Process.Pid
		for i := range soakMinutes {
			var s sample
			most, err := watchMemory(pid, func() error {
				var asked error
				var asking sync.WaitGroup
				asking.Go(func() { asked = br.askAround(ctx, w, i) })
				var err error
				s, err = feedFor(ctx, w, snd, sub, soakPerSecond, perPart)
				asking.Wait()
				return errors.Join(err, asked)
			})
			if err != nil {
				return err
			}
			now, ok := rssAnon(pid)
			if !ok {
				return errors.New("the memory of a process is known on Linux only")
			}
			anon, pauses, p99s = append(anon, most/(1<<20)), append(pauses, s["pause_ms"]), append(p99s, s["p99_ms"])
			fmt.Fprintf(b.progress, "  %s of %s: RssAnon %s MiB, most %s MiB; longest pause %s ms, p99 %s ms\n",
				time.Duration(i+1)*part, soakMinutes*part, short(now/(1<<20)), short(most/(1<<20)), short(s["pause_ms"]), short(s["p99_ms"]))
		}
		return nil
	})
	if settled := soakMinutes / soakSettles; len(anon) > settled {
		_, _, most := spread(anon)
		first, last := anon[settled-1:settled], anon[len(anon)-1:]
		res.figure("RssAnon, most in the part after which it shall be flat", "MiB", first)
		res.figure("RssAnon, most in the last part", "MiB", last)
		all := res.figure("RssAnon, most", "MiB", []float64{most})
		res.figure("RssAnon, slope since then", "MiB/h", []float64{slope(anon[settled-1:]) / part.Hours()})
		res.figure("RssAnon, most in each part", "MiB", anon)
		res.figure("longest pause in each part", "ms", pauses)
		res.figure("p99 from sender to subscriber in each part", "ms", p99s)
		res.share("RssAnon, most, of 150 MiB", all, 150)
		res.ratioAtMost("RssAnon, at the end / after a sixth of the time", last, first, 1.1)
	}
	res.note("%d Things × %d, full; %d parts of %s with %d updates/s, in each %d Things asked for, the newest minute, a replay of %d and a scrape; it shall be flat after %d parts",
		spaceThings, n/spaceThings, soakMinutes, part, soakPerSecond, soakAsked, soakReplay, soakMinutes/soakSettles)
	return err
}

// askAround is what users do now and then.
func (br *broker) askAround(ctx context.Context, w *workload, turn int) error {
	a, err := br.asker(ctx)
	if err != nil {
		return err
	}
	defer a.close()
	for i := range soakAsked {
		name, tree := thing.Name(w.names[(turn*soakAsked+i)*7919%cycle]), false
		if _, _, _, err := a.ask(ctx, wire.Request{NS: &name, Tree: &tree}); err != nil {
			return err
		}
	}
	since, many := thing.MicrosOfSeconds(-60), uint64(soakReplay)
	if _, _, _, err := a.ask(ctx, wire.Request{Since: &since, Limit: &many}); err != nil {
		return err
	}
	if _, _, _, err := a.ask(ctx, wire.Request{Limit: &many}); err != nil {
		return err
	}
	_, err = br.metrics(ctx, "tbhist_things")
	return err
}

// slope gives by how much values grow from one to the next, as the line that
// fits best.
func slope(values []float64) float64 {
	var sumX, sumY, sumXX, sumXY float64
	for i, y := range values {
		x := float64(i)
		sumX, sumY, sumXX, sumXY = sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
	}
	n := float64(len(values))
	if n < 2 {
		return 0
	}
	return (n*sumXY - sumX*sumY) / (n*sumXX - sumX*sumX)
}
