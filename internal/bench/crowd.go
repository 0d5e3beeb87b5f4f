package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tbhist/internal/wire"
	"tbhist/thing"
)

const (
	// hush is how long nothing comes, once all is sent, before those who
	// still wait for something are taken to wait in vain.
	hush = 5 * time.Second
	// openAtOnce bounds how many listeners connect at the same time.
	openAtOnce = 16
)

// crowd is listeners that hear one load, each in a goroutine of its own.
type crowd struct {
	load      *steady
	listeners []*listener
	heard     atomic.Int64 // updates, all together
	hearing   sync.WaitGroup
}

// gather opens n listeners of what prefixes gives for each.
func gather(ctx context.Context, br *broker, load *steady, n, bytes int, prefixes func(i int) [][]byte) (*crowd, error) {
	c := &crowd{load: load, listeners: make([]*listener, n)}
	errs := make([]error, n)
	var next atomic.Int64
	var opening sync.WaitGroup
	for range min(n, openAtOnce) {
		opening.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				c.listeners[i], errs[i] = br.listen(ctx, bytes, prefixes(i)...)
			}
		})
	}
	opening.Wait()
	c.listeners = slices.DeleteFunc(c.listeners, func(l *listener) bool { return l == nil })
	if err := errors.Join(errs...); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *crowd) close() {
	for _, l := range c.listeners {
		l.close()
	}
}

// everything is the prefixes of those who want all updates.
func everything(int) [][]byte { return [][]byte{updatePrefix} }

// only is the prefixes of one who wants one Thing.
func only(name string) [][]byte { return wire.Prefix(thing.Name(name), false) }

// start has a listener hear in its own goroutine: all of the load, or if
// want is not 0, so many updates of it. slow, unless nil, is called before
// each reading.
func (c *crowd) start(l *listener, want int, slow func()) {
	c.hearing.Go(func() {
		if want == 0 {
			l.err = c.hearAll(l, slow)
		} else {
			l.err = c.hearSome(l, want)
		}
		l.close()
	})
}

// hearAll takes the time of each burst, when its last update is there. It
// stays 0 where updates were lost.
func (c *crowd) hearAll(l *listener, slow func()) error {
	l.times = make([]time.Duration, len(c.load.at))
	l.last = uint64(c.load.from)
	burst := 0
	for begun := l.r < l.w; l.last < c.load.end(); begun = false {
		if slow != nil {
			slow()
		}
		if err := l.fillUnless(begun); err != nil {
			return err
		}
		now := c.load.now()
		n, newest := 0, []byte(nil)
		for m := l.next(); m != nil; m = l.next() {
			if bytes.HasPrefix(m, updatePrefix) {
				n, newest = n+1, m
			}
		}
		if n == 0 {
			continue
		}
		seq, err := seqOf(newest)
		if err != nil {
			return err
		}
		lost := seq != l.last+uint64(n)
		l.seen, l.last = l.seen+n, seq
		c.heard.Add(int64(n))
		whole := (int(seq) - c.load.from) / c.load.burst // bursts
		if seq >= c.load.end() {
			whole = len(l.times)
		}
		for ; burst < whole; burst++ {
			if !lost {
				l.times[burst] = now - c.load.sent(burst)
			}
		}
	}
	return nil
}

// hearSome takes the time of each update.
func (c *crowd) hearSome(l *listener, want int) error {
	l.times = make([]time.Duration, 0, want)
	for begun := l.r < l.w; l.seen < want; begun = false {
		if err := l.fillUnless(begun); err != nil {
			return err
		}
		now := c.load.now()
		for m := l.next(); m != nil; m = l.next() {
			if !bytes.HasPrefix(m, updatePrefix) {
				continue
			}
			seq, err := seqOf(m)
			if err != nil {
				return err
			}
			i := int(seq) - c.load.from - 1
			if i < 0 || i >= c.load.n {
				return fmt.Errorf("an update has seq %d, which nobody sent", seq)
			}
			l.seen, l.last = l.seen+1, seq
			l.times = append(l.times, now-c.load.sent(i/c.load.burst))
			c.heard.Add(1)
		}
	}
	return nil
}

// deliver sends the load and waits until the listeners, which were started,
// have heard what they want, or nothing more comes.
func (c *crowd) deliver(ctx context.Context, br *broker, snd *sender) (sample, error) {
	pid := br.cmd.Process.Pid
	before, own, start := cpuSeconds(pid), cpuSeconds(os.Getpid()), time.Now()
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	err := c.load.send(ctx, snd)
	if err == nil {
		err = br.awaitHead(ctx, int(c.load.end()))
	}
	if err != nil {
		c.close()
	}
	c.settle()
	seconds := time.Since(start).Seconds()
	if err = errors.Join(err, ctx.Err()); err != nil {
		return nil, err
	}
	v, err := br.metrics(ctx, "tbhist_commit_duration_seconds_sum", "tbhist_commit_duration_seconds_count")
	if err != nil {
		return nil, err
	}
	return sample{
		"commit_ms":     1000 * v[0] / v[1],
		"rate":          float64(c.load.n) / c.load.took().Seconds(),
		"cores":         (cpuSeconds(pid) - before) / seconds,
		"harness_cores": (cpuSeconds(os.Getpid()) - own) / seconds,
		"cpu_us":        1e6 * (cpuSeconds(pid) - before) / float64(c.load.n),
	}, nil
}

// settle waits for the listeners, as long as anything comes.
func (c *crowd) settle() {
	done := make(chan struct{})
	go func() {
		c.hearing.Wait()
		close(done)
	}()
	tick := time.NewTicker(hush)
	defer tick.Stop()
	for heard := c.heard.Load(); ; heard = c.heard.Load() {
		select {
		case <-done:
			return
		case <-tick.C:
			if c.heard.Load() == heard {
				c.close()
				<-done
				return
			}
		}
	}
}

// heardBy gives how many updates some listeners heard, and why one of them
// ended early, if any did.
func heardBy(listeners []*listener) (n int, err error) {
	for _, l := range listeners {
		n += l.seen
		if err == nil {
			err = l.err
		}
	}
	return n, err
}

// timesOf gives those of some listeners, from burst or update from to below
// to, without what was lost.
func timesOf(listeners []*listener, from, to int) []time.Duration {
	var all []time.Duration
	for _, l := range listeners {
		for _, d := range l.times[min(from, len(l.times)):min(to, len(l.times))] {
			if d > 0 {
				all = append(all, d)
			}
		}
	}
	return all
}
