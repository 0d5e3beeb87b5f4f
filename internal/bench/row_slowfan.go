package main

import (
	"context"
	"sync"
	"time"
)

// slowSubscribers are those of fanSubscribers that read slowly.
const slowSubscribers = 10

// slowly is when some read slowly: at a tenth of the rate from begin to end,
// both counted from start.
type slowly struct {
	start           time.Time
	begin, end, all time.Duration
}

// spans divides the time of n updates: a quarter in which all keep up, so
// that the broker has grown as much as it does, a half in which some do not,
// and the rest.
func spans(n int) slowly {
	all := lasting(n, fanRate)
	return slowly{time.Now(), all / 4, 3 * all / 4, all}
}

// hold holds a listener back while it is to be slow.
func (sl *slowly) hold(l *listener) {
	for {
		past := time.Since(sl.start)
		if past < sl.begin || past >= sl.end {
			return
		}
		if l.seen < int((sl.begin+(past-sl.begin)/10).Seconds()*fanRate) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// bursts gives the bursts that are sent from one moment to another.
func (sl *slowly) bursts(from, to time.Duration) (int, int) {
	return int(from / time.Millisecond), int(to / time.Millisecond)
}

// slowfan is fanout where some read slowly for a while, against fanout.
func slowfan(ctx context.Context, b *bench, res *result) error {
	n := b.count(20 * fanRate)
	run := func(name string, slow int) contestant {
		return contestant{name, func(ctx context.Context) (s sample, err error) {
			err = b.fan(ctx, name, n, func(br *broker, snd *sender, c *crowd) error {
				s, err = b.slowFan(ctx, res, br, snd, c, slow)
				return err
			})
			return s, err
		}}
	}
	got, err := b.alternate(ctx, run("fanout", 0), run("slowfan", slowSubscribers))
	all, some := got["fanout"], got["slowfan"]
	with := res.figure("the 40, p99 while the 10 are slow", "ms", some["slow_p99_ms"])
	without := res.figure("the 40, p99 then when none is slow", "ms", all["slow_p99_ms"])
	loose := res.figure("the 40, p99 once the 10 are let loose", "ms", some["loose_p99_ms"])
	notLoose := res.figure("the 40, p99 then when none was slow", "ms", all["loose_p99_ms"])
	res.figure("the 10, until they have caught up", "s", some["caught_up_s"])
	res.figure("read back from history for each of the 10", "updates", some["history"])
	before := res.figure("most RssAnon before", "MiB", some["anon_before"])
	while := res.figure("most RssAnon while the 10 are slow", "MiB", some["anon_slow"])
	flat := res.figure("most RssAnon then when none is slow", "MiB", all["anon_slow"])
	res.figure("most RssAnon once they are let loose", "MiB", some["anon_loose"])
	res.figure("most RssAnon then when none was slow", "MiB", all["anon_loose"])
	res.cores(some)
	res.ratio("the 40: delivered / sent", some["share"], ones(some["share"]), 1)
	res.ratio("the 10: delivered / sent", some["slow_share"], ones(some["slow_share"]), 1)
	res.ratioAtMost("the 40: p99 while the 10 are slow / when none is", with, without, 1.5)
	res.ratioAtMost("the 40: p99 once they are let loose / when none was slow", loose, notLoose, 0)
	res.ratioAtMost("RssAnon while the 10 are slow / when none is", while, flat, 1.25)
	res.ratioAtMost("RssAnon while the 10 are slow / before", while, before, 0)
	sl := spans(n)
	res.note("%d subscribers of everything, %d updates/s for %s, of which %d read at a tenth of that from %s to %s",
		fanSubscribers, fanRate, sl.all, slowSubscribers, sl.begin, sl.end)
	return err
}

// slowFan measures a crowd whose first listeners are slow for a while.
func (b *bench) slowFan(ctx context.Context, res *result, br *broker, snd *sender, c *crowd, slow int) (sample, error) {
	pid, sl := br.cmd.Process.Pid, spans(c.load.n)
	lazy, rest := c.listeners[:slow], c.listeners[slowSubscribers:]
	for i, l := range c.listeners {
		if i < slow {
			c.start(l, 0, func() { sl.hold(l) })
		} else {
			c.start(l, 0, nil)
		}
	}
	var most [3]float64
	var watching sync.WaitGroup
	done := make(chan struct{})
	watching.Go(func() {
		for i, end := range []time.Duration{sl.begin, sl.end, deadline} {
			most[i], _ = watchMemory(pid, func() error { // it fails as f does
				select {
				case <-time.After(time.Until(sl.start.Add(end))):
				case <-done:
				}
				return nil
			})
		}
	})
	s, err := c.deliver(ctx, br, snd)
	close(done)
	watching.Wait()
	if err != nil {
		return nil, err
	}
	for i, name := range []string{"anon_before", "anon_slow", "anon_loose"} {
		s[name] = most[i] / (1 << 20)
	}
	s["share"] = res.heard("the 40: ", rest, c.load.n*len(rest))
	from, to := sl.bursts(sl.begin, sl.end)
	s.add("slow_", quantiles(timesOf(rest, from, to)))
	s.add("loose_", quantiles(timesOf(rest, to, len(c.load.at))))
	if slow > 0 {
		s["slow_share"] = res.heard("the 10: ", lazy, c.load.n*len(lazy))
		s["caught_up_s"] = (c.behindUntil(lazy) - sl.start.Sub(c.load.begun) - sl.end).Seconds()
		v, err := br.metrics(ctx, "tbhist_updates_served_from_history_total")
		if err != nil {
			return nil, err
		}
		s["history"] = v[0] / float64(slow)
	}
	return s, nil
}

// behindUntil gives when, by the load's clock, the last of some listeners
// had caught up: since then none was a tenth of a second late.
func (c *crowd) behindUntil(listeners []*listener) time.Duration {
	last := time.Duration(0)
	for _, l := range listeners {
		for burst, d := range l.times {
			if d > 100*time.Millisecond {
				last = max(last, c.load.sent(burst)+d)
			}
		}
	}
	return last
}
