package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"tbhist/internal/wire"
)

const (
	snapshotThings = 10_000
	snapshotRate   = 20_000
	// snapshotPause is between two snapshots that are asked for.
	snapshotPause = 250 * time.Millisecond
	// snapshotBuffer holds a part of one and what else may be read with it.
	snapshotBuffer = 2 << 20
)

// snapshots measures how late updates are while snapshots are made and sent
// to somebody else, against how late they are without.
func snapshots(ctx context.Context, b *bench, res *result) error {
	n := b.count(10 * snapshotRate)
	w := b.workload(snapshotThings)
	run := func(name string, ask bool) contestant {
		return contestant{name, func(ctx context.Context) (s sample, err error) {
			load := w.steady(snapshotRate, n)
			err = b.fed(ctx, nil, func(br *broker, snd *sender) error {
				if err := load.introduce(ctx, br, snd); err != nil {
					return err
				}
				return br.profiled(ctx, "snapshots-"+name, func() error {
					s, err = snapshotsBeside(ctx, br, snd, load, ask)
					return err
				})
			})
			return s, err
		}}
	}
	got, err := b.alternate(ctx, run("with", true), run("without", false))
	with, without := got["with"], got["without"]
	longest := res.figure("longest while one is made or sent", "ms", with["in_max_ms"])
	res.figure("longest between them", "ms", with["out_max_ms"])
	never := res.figure("longest without any", "ms", without["out_max_ms"])
	res.figure("p99 while one is made or sent", "ms", with["in_p99_ms"])
	res.figure("p99 between them", "ms", with["out_p99_ms"])
	res.figure("p99 without any", "ms", without["out_p99_ms"])
	res.figure("snapshots asked for and sent", "", with["snapshots"])
	res.figure("of a snapshot, from asking to its end", "ms", with["snapshot_ms"])
	res.figure("of that, making it", "ms", with["made_ms"])
	res.figure("size of a snapshot", "MiB", with["snapshot_mib"])
	res.cores(with)
	late := make([]float64, min(len(longest), len(never)))
	for i := range late { // 0 would be left out
		late[i] = max(longest[i]-never[i], 0.01)
	}
	late = res.figure("longest while one is made or sent less longest without any", "ms", late)
	res.share("lateness because of a snapshot, of 50 ms", late, 50)
	res.ratioAtMost("longest while one is made or sent / without any", longest, never, 0)
	res.note("%d Things, %d updates/s for %s, a new subscriber of a snapshot %s after the last one had its own",
		snapshotThings, snapshotRate, lasting(n, snapshotRate), snapshotPause)
	return err
}

// span is a stretch of time on a load's clock.
type span struct{ from, to time.Duration }

// snapshotsBeside measures the lateness that one subscriber sees while
// others come for a snapshot, one after the other, if ask.
func snapshotsBeside(ctx context.Context, br *broker, snd *sender, load *steady, ask bool) (sample, error) {
	c, err := gather(ctx, br, load, 1, fanBuffer, everything)
	if err != nil {
		return nil, err
	}
	defer c.close()
	c.start(c.listeners[0], 0, nil)
	done := make(chan struct{})
	var spans []span
	var failed error
	var asking sync.WaitGroup
	if ask {
		asking.Go(func() { spans, failed = br.askForSnapshots(ctx, load, done) })
	}
	s, err := c.deliver(ctx, br, snd)
	close(done)
	asking.Wait()
	if err := errors.Join(err, failed, c.listeners[0].err); err != nil {
		return nil, err
	}
	var in, out []time.Duration
	for burst, d := range c.listeners[0].times {
		from := load.sent(burst)
		if within(spans, from, from+d) {
			in = append(in, d)
		} else {
			out = append(out, d)
		}
	}
	for prefix, times := range map[string][]time.Duration{"in_": in, "out_": out} {
		if len(times) > 0 {
			s.add(prefix, quantiles(times))
		}
	}
	if ask {
		v, err := br.metrics(ctx, "tbhist_snapshot_duration_seconds_sum", "tbhist_snapshot_duration_seconds_count", "tbhist_snapshot_bytes")
		if err != nil {
			return nil, err
		}
		sum := time.Duration(0)
		for _, sp := range spans {
			sum += sp.to - sp.from
		}
		s["snapshots"], s["snapshot_ms"] = float64(len(spans)), sum.Seconds()*1000/float64(len(spans))
		s["made_ms"], s["snapshot_mib"] = 1000*v[0]/v[1], v[2]/(1<<20)
	}
	return s, nil
}

// within tells whether a stretch of time has a part in one of the spans.
func within(spans []span, from, to time.Duration) bool {
	for _, sp := range spans {
		if from <= sp.to && to >= sp.from {
			return true
		}
	}
	return false
}

// askForSnapshots connects, takes a snapshot and leaves, again and again
// until done. It does so once at least.
func (br *broker) askForSnapshots(ctx context.Context, load *steady, done <-chan struct{}) (taken []span, err error) {
	for {
		l, err := br.listen(ctx, snapshotBuffer)
		if err != nil {
			return taken, err
		}
		from := load.now()
		err = l.takeSnapshot()
		l.close()
		if err != nil {
			return taken, err
		}
		taken = append(taken, span{from, load.now()})
		select {
		case <-done:
			return taken, nil
		case <-time.After(snapshotPause):
		}
	}
}

// takeSnapshot subscribes to snapshots and reads all parts of one.
func (l *listener) takeSnapshot() error {
	prefix := []byte(wire.SnapshotPrefix)
	if err := l.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := l.c.Write(subscription(true, prefix)); err != nil {
		return err
	}
	for {
		m, err := l.await(prefix)
		if err != nil {
			return err
		}
		if last, err := lastPart(m); last || err != nil {
			return err
		}
	}
}

// lastPart tells whether a message is the last one of a snapshot.
func lastPart(snapshot []byte) (bool, error) {
	const part, parts = `, "part": `, `, "parts": `
	i := bytes.LastIndex(snapshot, []byte(part))
	if i < 0 || bytes.IndexByte(snapshot[i:], '}') != len(snapshot)-i-1 { // something in its data
		return true, nil
	}
	a, b, _ := bytes.Cut(snapshot[i+len(part):len(snapshot)-1], []byte(parts))
	k, err := strconv.Atoi(string(a))
	n, err2 := strconv.Atoi(string(b))
	if err := errors.Join(err, err2); err != nil {
		return false, fmt.Errorf("part %q of a snapshot: %w", snapshot[i:], err)
	}
	return k == n, nil
}
