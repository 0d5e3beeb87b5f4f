package main

import (
	"context"
	"strconv"
	"time"
)

// rate gives updates a second.
func rate(n int, took time.Duration) sample { return sample{"rate": float64(n) / took.Seconds()} }

// throughput compares updates that are durable and delivered to one
// subscriber a second.
func throughput(ctx context.Context, b *bench, res *result) error {
	const things, ring = 1000, 1000
	n := b.count(300_000)
	slow := b.count(8_000) // for NATS that syncs always
	w := b.workload(things)
	all := []contestant{
		{"tbhist", func(ctx context.Context) (sample, error) {
			return b.liveRate(ctx, "throughput", []string{"--ring", strconv.Itoa(ring)}, w, 0, n)
		}},
		{"JetStream", func(ctx context.Context) (sample, error) {
			return b.natsLive(ctx, false, ring, w, 0, n)
		}},
		{"JetStream, sync always", func(ctx context.Context) (sample, error) {
			return b.natsLive(ctx, true, ring, w, 0, slow)
		}},
		{"bare bbolt", func(context.Context) (sample, error) {
			took, err := b.floorBolt(w, n)
			return rate(n, took), err
		}},
		{"write and fdatasync", func(context.Context) (sample, error) {
			took, err := b.floorSync(w, n)
			return rate(n, took), err
		}},
	}
	if why := b.redisMissing(); why != "" {
		res.note("%s", why)
	} else {
		for _, fsync := range []string{"always", "everysec"} {
			all = append(all, contestant{"Redis, " + fsync, func(ctx context.Context) (sample, error) {
				return b.redisRun(ctx, fsync, ring, w, n)
			}})
		}
	}
	got, err := b.alternate(ctx, all...)
	rates := map[string][]float64{}
	for _, c := range all {
		rates[c.name] = res.figure(c.name, "updates/s", got[c.name]["rate"])
	}
	for _, c := range all {
		res.figure(c.name+", CPU time of the server", "µs/update", got[c.name]["cpu_us"])
	}
	res.figure("tbhist, longest pause", "ms", got["tbhist"]["pause_ms"])
	own := rates["tbhist"]
	res.ratio("tbhist / JetStream that does not sync", own, rates["JetStream"], 4)
	res.ratio("tbhist / JetStream that syncs always", own, rates["JetStream, sync always"], 100)
	res.ratio("tbhist / Redis, appendfsync always, no consumer", own, rates["Redis, always"], 1.6)
	res.ratio("tbhist / Redis, appendfsync everysec, no consumer", own, rates["Redis, everysec"], 0)
	res.ratio("tbhist / bare bbolt commits of 2,000", own, rates["bare bbolt"], 0)
	res.ratio("tbhist / write and fdatasync of 2,000", own, rates["write and fdatasync"], 0)
	res.note("%d updates each, JetStream with sync always %d; Redis pipelined by %d, XADD MAXLEN ~ %d", n, slow, redisPipeline, ring)
	return err
}

// liveRate measures one broker of its own with the updates from and below
// to, after those before them.
func (b *bench) liveRate(ctx context.Context, name string, args []string, w *workload, from, to int) (s sample, err error) {
	err = b.live(ctx, args, func(br *broker, snd *sender, sub *subscriber) error {
		if from > 0 {
			if _, err := pump(ctx, snd, sub, w, 0, from); err != nil {
				return err
			}
		}
		return br.profiled(ctx, name, func() error {
			before := cpuSeconds(br.cmd.Process.Pid)
			p, err := pump(ctx, snd, sub, w, from, to)
			s = rate(to-from, p.took)
			s["pause_ms"] = float64(p.pause) / float64(time.Millisecond)
			s["cpu_us"] = 1e6 * (cpuSeconds(br.cmd.Process.Pid) - before) / float64(to-from)
			return err
		})
	})
	return s, err
}
