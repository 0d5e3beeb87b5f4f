package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// spaceThings is how many Things the rows about space have.
const spaceThings = 10_000

func space(ctx context.Context, b *bench, res *result) error {
	return measureSpace(ctx, b, res, b.count(1_000_000), b.count(200_000))
}

func spaceFull(ctx context.Context, b *bench, res *result) error {
	n := b.count(10_000_000)
	return measureSpace(ctx, b, res, n, n/10)
}

// measureSpace takes in n updates, JetStream peer updates, and looks at what
// they take up. The figures do not depend on what else the machine does: one
// round is enough.
func measureSpace(ctx context.Context, b *bench, res *result, n, peer int) error {
	w := b.workload(spaceThings)
	one := *b
	one.rounds = 1
	got, err := one.alternate(ctx,
		contestant{"tbhist", func(ctx context.Context) (sample, error) { return b.spaceOwn(ctx, w, n) }},
		contestant{"JetStream", func(ctx context.Context) (sample, error) { return b.spaceNATS(ctx, w, peer) }})
	own, nats := got["tbhist"], got["JetStream"]
	disk := res.figure("tbhist, segments on disk", "bytes/update", own["segments"])
	res.figure("tbhist, the file after a stop", "bytes/update", own["file"])
	theirs := res.figure("JetStream, all files", "bytes/update", nats["files"])
	most := res.figure("tbhist, most RssAnon under load", "MiB", own["anon_most"])
	res.figure("tbhist, RssAnon after it", "MiB", own["anon_end"])
	res.figure("tbhist, RssAnon after a restart", "MiB", own["anon_restart"])
	res.figure("JetStream, most RssAnon under load", "MiB", nats["anon_most"])
	res.share("bytes on disk per update, of 45", disk, 45)
	res.ratioAtMost("bytes on disk per update / JetStream's", disk, theirs, 0)
	res.share("RssAnon under load, of 150 MiB", most, 150)
	res.note("%d Things, %d updates, JetStream %d", spaceThings, n, peer)
	return err
}

func (b *bench) spaceOwn(ctx context.Context, w *workload, n int) (sample, error) {
	s := sample{}
	err := b.live(ctx, []string{"--ring", "1000", "--max-db", "8GiB"}, func(br *broker, snd *sender, sub *subscriber) error {
		pid := br.cmd.Process.Pid
		most, err := watchMemory(pid, func() error {
			_, err := pump(ctx, snd, sub, w, 0, n)
			return err
		})
		if err != nil {
			return err
		}
		if end, ok := rssAnon(pid); ok {
			s["anon_most"], s["anon_end"] = most/(1<<20), end/(1<<20)
		}
		snd.close()
		sub.close()
		if err := br.stop(); err != nil {
			return err
		}
		info, err := os.Stat(br.db)
		if err != nil {
			return err
		}
		s["file"] = float64(info.Size()) / float64(n)
		if err := br.start(ctx); err != nil {
			return err
		}
		if anon, ok := rssAnon(br.cmd.Process.Pid); ok {
			s["anon_restart"] = anon / (1 << 20)
		}
		v, err := br.metrics(ctx, "tbhist_history_segment_bytes", "tbhist_history_log_bytes", "tbhist_history_updates")
		if err != nil {
			return err
		}
		if v[2] != float64(n) {
			return fmt.Errorf("history has %v of %d updates", v[2], n)
		}
		s["segments"] = (v[0] + v[1]) / v[2]
		return nil
	})
	return s, err
}

func (b *bench) spaceNATS(ctx context.Context, w *workload, n int) (sample, error) {
	s := sample{}
	err := b.nats(ctx, false, 1000, func(p *natsPeer) error {
		done, stop, err := p.consume(ctx, jetstream.DeliverAllPolicy, n)
		if err != nil {
			return err
		}
		defer stop()
		most, err := watchMemory(p.cmd.Process.Pid, func() error {
			if err := p.publish(ctx, w, 0, n); err != nil {
				return err
			}
			return wait(ctx, done)
		})
		if err != nil {
			return err
		}
		if most > 0 {
			s["anon_most"] = most / (1 << 20)
		}
		if err := p.stop(); err != nil {
			return err
		}
		size := int64(0)
		err = filepath.WalkDir(p.dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				size += info.Size()
			}
			return err
		})
		s["files"] = float64(size) / float64(n)
		return err
	})
	return s, err
}

// watchMemory runs f and gives the most anonymous memory that the process
// had meanwhile, looked at ten times a second.
func watchMemory(pid int, f func() error) (most float64, err error) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if v, ok := rssAnon(pid); ok {
				most = max(most, v)
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	err = f()
	close(done)
	watching.Wait()
	return most, err
}
