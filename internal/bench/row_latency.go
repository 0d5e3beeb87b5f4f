package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"tbhist/internal/zmtp"
)

// paced calls f n times, every interval by plan. What is late is done at
// once.
func paced(ctx context.Context, n int, interval time.Duration, f func(i int) error) error {
	start := time.Now()
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(time.Until(start.Add(time.Duration(i) * interval)))
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// quantiles gives those of the times that took, none if there are none.
func quantiles(took []time.Duration) sample {
	if len(took) == 0 {
		return nil
	}
	ms, sum := make([]float64, len(took)), 0.0
	for i, d := range took {
		ms[i] = float64(d) / float64(time.Millisecond)
		sum += ms[i]
	}
	slices.Sort(ms)
	return sample{"p50_ms": quantile(ms, 0.5), "p99_ms": quantile(ms, 0.99), "max_ms": ms[len(ms)-1], "mean_ms": sum / float64(len(ms))}
}

// latency compares the time from sending to receiving, with a commit in
// between, with that of a commit alone.
func latency(ctx context.Context, b *bench, res *result) error {
	const interval = time.Millisecond
	n := b.count(4000)
	w := b.workload(1000)
	got, err := b.alternate(ctx,
		contestant{"tbhist", func(ctx context.Context) (s sample, err error) {
			err = b.live(ctx, nil, func(br *broker, snd *sender, sub *subscriber) error {
				if err := br.profiled(ctx, "latency", func() error {
					s, err = endToEnd(ctx, w, snd, sub, n, interval)
					return err
				}); err != nil {
					return err
				}
				v, err := br.metrics(ctx, "tbhist_commit_duration_seconds_sum", "tbhist_commit_duration_seconds_count")
				if err == nil {
					s["commit_ms"], s["batch"] = 1000*v[0]/v[1], float64(n)/v[1]
				}
				return err
			})
			return s, err
		}},
		contestant{"bare bbolt commit", func(ctx context.Context) (sample, error) {
			return b.commits(ctx, w, n, interval)
		}})
	own, bare := got["tbhist"], got["bare bbolt commit"]
	p50 := res.figure("tbhist, p50", "ms", own["p50_ms"])
	p99 := res.figure("tbhist, p99", "ms", own["p99_ms"])
	res.figure("tbhist, longest", "ms", own["max_ms"])
	res.figure("tbhist, mean of its own commits", "ms", own["commit_ms"])
	res.figure("tbhist, updates in a commit", "", own["batch"])
	floor := res.figure("bare bbolt commit, p50", "ms", bare["p50_ms"])
	res.figure("bare bbolt commit, p99", "ms", bare["p99_ms"])
	res.figure("bare bbolt commit, longest", "ms", bare["max_ms"])
	res.figure("bare bbolt commit, mean", "ms", bare["mean_ms"])
	res.ratioAtMost("p50 / p50 of a bare bbolt commit", p50, floor, 1.5)
	res.ratioAtMost("p99 / p50", p99, p50, 10)
	res.note("1,000 updates/s for %d s, one by one, both", n/1000)
	return err
}

// endToEnd sends n more updates one by one and takes the time of each.
func endToEnd(ctx context.Context, w *workload, snd *sender, sub *subscriber, n int, interval time.Duration) (sample, error) {
	from, sent, took := sub.seen, make([]time.Time, n), make([]time.Duration, n)
	var mu sync.Mutex // guards sent
	var failed error
	var sending sync.WaitGroup
	sending.Go(func() {
		failed = paced(ctx, n, interval, func(i int) error {
			mu.Lock()
			sent[i] = time.Now()
			mu.Unlock()
			if err := snd.c.Write(zmtp.AppendFrame(nil, w.payloads[(from+i)%cycle], false)); err != nil {
				return err
			}
			return snd.c.Flush()
		})
		if failed != nil {
			sub.close()
		}
	})
	_, err := sub.receive(ctx, from+n, func(i int) {
		now := time.Now()
		mu.Lock()
		took[i-from] = now.Sub(sent[i-from]) // one connection: they come as they were sent
		mu.Unlock()
	})
	if err != nil {
		snd.close()
	}
	sending.Wait()
	return quantiles(took), errors.Join(failed, err)
}

// commits commits updates one by one to a bare bbolt file.
func (b *bench) commits(ctx context.Context, w *workload, n int, interval time.Duration) (sample, error) {
	dir, remove, err := b.tempDir("bbolt")
	defer remove()
	if err != nil {
		return nil, err
	}
	db, err := openFloor(dir)
	if err != nil {
		return nil, err
	}
	took := make([]time.Duration, n)
	err = paced(ctx, n, interval, func(i int) error {
		start := time.Now()
		err := floorCommit(db, i, w.payloads[i%cycle])
		took[i] = time.Since(start)
		return err
	})
	return quantiles(took), errors.Join(err, db.Close())
}
