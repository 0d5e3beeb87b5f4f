package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// deviceSeconds is how long the device is looked at, in windows of
	// deviceWindow seconds of which the median counts: what others write now
	// and then is not in it, the journal of the file system is.
	deviceSeconds, deviceWindow = 25, 5
	// deviceBefore is how many updates the log has then: half of what makes
	// a segment, so that it is as deep as it mostly is.
	deviceBefore = 16_000
	day          = 24 * 60 * 60
)

// device measures what few updates cost an SD card, and how late they come
// for that. What is written the device says: one round, each by itself.
func device(ctx context.Context, b *bench, res *result) error {
	if _, ok := deviceBytes(b.dir); !ok {
		res.note("what is written to the device is not known here")
		return nil
	}
	w := b.workload(1000)
	seconds := max(int(deviceSeconds*b.scale), 2)
	for _, perSecond := range []int{10, 200} {
		for _, gather := range []string{"0s", "1s"} {
			name := fmt.Sprintf("%d/s, --gather %s", perSecond, gather)
			var s sample
			err := b.live(ctx, []string{"--gather", gather}, func(br *broker, snd *sender, sub *subscriber) (err error) {
				if _, err = pump(ctx, snd, sub, w, 0, deviceBefore); err == nil {
					s, err = br.written(ctx, w, snd, sub, perSecond, seconds)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(b.progress, "  %-22s %s\n", name, s)
			one := func(what, unit, of string) []float64 {
				return res.figure(name+", "+what, unit, []float64{s[of]})
			}
			perDay := one("to the device", "GB/day", "gb_day")
			one("to the device", "bytes/commit", "per_commit")
			one("commits", "1/s", "commits")
			one("p50", "ms", "p50_ms")
			one("p99", "ms", "p99_ms")
			if perSecond == 10 && gather == "1s" {
				res.share(name+": to the device, of 2.5 GB/day", perDay, 2.5)
			}
		}
	}
	res.note("1,000 Things, %d s each; a segment is made of 32,768 updates, that is not in here", seconds)
	return nil
}

// written gives what a broker that takes so many updates writes to the
// device.
func (br *broker) written(ctx context.Context, w *workload, snd *sender, sub *subscriber, perSecond, seconds int) (s sample, err error) {
	const commits = "tbhist_commit_duration_seconds_count"
	before, err := br.metrics(ctx, commits)
	if err != nil {
		return nil, err
	}
	settleDevice()
	start := time.Now()
	rate, err := br.b.deviceRate(func() (err error) {
		s, err = endToEnd(ctx, w, snd, sub, seconds*perSecond, time.Second/time.Duration(perSecond))
		return err
	})
	took := time.Since(start)
	if err != nil {
		return nil, err
	}
	after, err := br.metrics(ctx, commits)
	if err != nil {
		return nil, err
	}
	s["commits"] = (after[0] - before[0]) / took.Seconds()
	s["per_commit"], s["gb_day"] = rate/s["commits"], rate*day/1e9
	return s, nil
}

// deviceRate gives the bytes a second that go to the device while f runs.
func (b *bench) deviceRate(f func() error) (float64, error) {
	var bytes []float64
	var times []time.Time
	look := func() {
		v, _ := deviceBytes(b.dir) // it was known before
		bytes, times = append(bytes, v), append(times, time.Now())
	}
	look()
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-done:
				return
			}
		}
	})
	err := f()
	close(done)
	looking.Wait()
	look()
	window := min(deviceWindow, len(bytes)-1)
	var rates []float64
	for i := range len(bytes) - window {
		rates = append(rates, (bytes[i+window]-bytes[i])/times[i+window].Sub(times[i]).Seconds())
	}
	_, median, _ := spread(rates)
	return median, err
}
