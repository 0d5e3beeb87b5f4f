package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	scrapedThings    = 100_000
	scrapedPerSecond = 20_000
	scrapedSeconds   = 2 // for which the feed is watched, each time
)

// scraping looks at /metrics with very many Things, and at what it does to a
// live feed.
func scraping(ctx context.Context, b *bench, res *result) error {
	things := b.count(scrapedThings)
	w := b.workload(things)
	return b.live(ctx, []string{"--metrics-things", fmt.Sprint(scrapedThings)}, func(br *broker, snd *sender, sub *subscriber) error {
		if _, err := pump(ctx, snd, sub, w, 0, things); err != nil {
			return err
		}
		pid, scraper := br.cmd.Process.Pid, br.scraper()
		defer scraper.close()
		before, _ := rssAnon(pid) // no figure where it is 0
		watched := func(scraped bool) func(context.Context) (sample, error) {
			return func(ctx context.Context) (sample, error) {
				done := make(chan struct{})
				var took []time.Duration
				var failed error
				var beside sync.WaitGroup
				if scraped {
					beside.Go(func() { took, failed = scraper.scrapeUntil(ctx, done) })
				}
				var s sample
				most, err := watchMemory(pid, func() (err error) {
					s, err = feedFor(ctx, w, snd, sub, scrapedPerSecond, scrapedPerSecond*scrapedSeconds)
					close(done)
					beside.Wait()
					return err
				})
				if err = errors.Join(err, failed); err != nil {
					return nil, err
				}
				if most > 0 {
					s["anon"] = most / (1 << 20)
				}
				if scraped {
					q := quantiles(took)
					s["scrape_ms"], s["scrape_max_ms"] = q["p50_ms"], q["max_ms"]
				}
				return s, nil
			}
		}
		alone := func(coding string) func(context.Context) (sample, error) {
			return func(ctx context.Context) (sample, error) {
				took, answer, err := scraper.scrape(ctx, coding)
				s := sample{"ms": float64(took) / float64(time.Millisecond), "mb": float64(len(answer)) / 1e6}
				if err == nil && coding == "" {
					if n := bytes.Count(answer, []byte("\ntbhist_thing_updates_total{")); n != things {
						err = fmt.Errorf("/metrics has %d of %d Things", n, things)
					}
				}
				return s, err
			}
		}
		got, err := b.alternate(ctx,
			contestant{"feed", watched(false)},
			contestant{"feed and scrapes", watched(true)},
			contestant{"alone, gzip", alone(scraperCoding)},
			contestant{"alone, plain", alone("")})
		quiet, busy := got["feed"], got["feed and scrapes"]
		scrape := res.figure("a scrape, one after the other beside the feed", "ms", busy["scrape_ms"])
		res.figure("a scrape, the longest", "ms", busy["scrape_max_ms"])
		res.figure("a scrape, alone", "ms", got["alone, gzip"]["ms"])
		res.figure("a scrape, alone, not compressed", "ms", got["alone, plain"]["ms"])
		res.figure("size", "MB", got["alone, gzip"]["mb"])
		res.figure("size, not compressed", "MB", got["alone, plain"]["mb"])
		if before > 0 {
			res.figure("RssAnon before", "MiB", []float64{before / (1 << 20)})
		}
		least := res.figure("RssAnon, most with the feed alone", "MiB", quiet["anon"])
		most := res.figure("RssAnon, most with scrapes", "MiB", busy["anon"])
		calm := res.figure("longest pause of the feed", "ms", quiet["pause_ms"])
		pause := res.figure("longest pause of the feed with scrapes", "ms", busy["pause_ms"])
		res.figure("p99 from sender to subscriber", "ms", quiet["p99_ms"])
		res.figure("p99 from sender to subscriber with scrapes", "ms", busy["p99_ms"])
		res.share("a scrape, of 1 s", scrape, 1000)
		res.share("longest pause with scrapes, of 100 ms", pause, 100)
		res.ratioAtMost("longest pause with scrapes / without", pause, calm, 0)
		res.ratioAtMost("most RssAnon with scrapes / without", most, least, 0)
		res.note("%d Things, %d updates/s for %d s each, compressed as Prometheus asks for it; load and scraper share the CPUs",
			things, scrapedPerSecond, scrapedSeconds)
		return err
	})
}

// feedFor sends n more updates at a steady rate to a broker that has had all
// of sub's, and gives how they arrived.
func feedFor(ctx context.Context, w *workload, snd *sender, sub *subscriber, perSecond, n int) (sample, error) {
	load := w.steady(perSecond, n)
	load.from = sub.seen
	took := make([]time.Duration, n)
	var sent error
	var sending sync.WaitGroup
	sending.Go(func() {
		if sent = load.send(ctx, snd); sent != nil {
			sub.close()
		}
	})
	pause, err := sub.receive(ctx, load.from+n, func(i int) {
		i -= load.from
		took[i] = load.now() - load.sent(i/load.burst)
	})
	if err != nil {
		snd.close()
	}
	sending.Wait()
	if err = errors.Join(sent, err); err != nil {
		return nil, err
	}
	s := quantiles(took)
	s["pause_ms"] = float64(pause) / float64(time.Millisecond)
	return s, nil
}
