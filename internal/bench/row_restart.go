package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
)

const (
	restartThings = 10_000
	// restartFill bounds how long the peer is filled; what it has then is
	// what it is compared by.
	restartFill = 3 * time.Minute
	// restartMore is how many updates come before each end: what a start
	// after a kill finds in the log.
	restartMore = 20_000
)

// keeper is a server that is ended and started on what it keeps.
type keeper interface {
	// fill takes in updates up to the first below total.
	fill(ctx context.Context, w *workload, total int) error
	// stop ends it in good order, kill at once.
	stop() error
	kill()
	// restarted starts it and gives how long it took until it served, and
	// until the newest update of each Thing was there.
	restarted(ctx context.Context, total int) (ready, newest time.Duration, err error)
}

// restart compares starts on long histories: tbhist's with two lengths of
// rings, JetStream's with the longer one or what it could be filled with.
func restart(ctx context.Context, b *bench, res *result) error {
	n := b.count(10_000_000)
	w := b.workload(restartThings)
	peer, removePeer, err := b.newNATSKeeper(ctx, n/restartThings+restartMore)
	if removePeer != nil {
		defer removePeer()
	}
	if err != nil {
		return err
	}
	filled, err := fillFor(ctx, peer, w, n, restartFill)
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	type one struct {
		name  string
		total int
		keeper
	}
	all := []*one{{fmt.Sprintf("JetStream, %d updates", filled), filled, peer}}
	sizes := []int{n / 10, n}
	if filled < n {
		sizes = []int{n / 10, filled, n}
		res.note("JetStream was filled for %s and had %d updates then", restartFill, filled)
	}
	for _, size := range sizes {
		k, remove, err := b.newOwnKeeper(ctx)
		if remove != nil {
			defer remove()
		}
		if err == nil {
			err = k.fill(ctx, w, size)
		}
		if err == nil {
			err = k.stop()
		}
		if err != nil {
			return err
		}
		all = append(all, &one{fmt.Sprintf("tbhist, %d updates", size), size, k})
	}
	var contestants []contestant
	for _, o := range all {
		contestants = append(contestants, contestant{o.name, func(ctx context.Context) (sample, error) {
			return restarts(ctx, o.keeper, w, &o.total)
		}})
	}
	got, err := b.alternate(ctx, contestants...)
	figures := map[string]map[string][]float64{}
	for _, o := range all {
		f := map[string][]float64{}
		for _, way := range []string{"stop", "kill"} {
			f[way+"_ready"] = res.figure(o.name+", until it serves, after a "+way, "ms", got[o.name][way+"_ready"])
			f[way+"_newest"] = res.figure(o.name+", until the newest of each Thing, after a "+way, "ms", got[o.name][way+"_newest"])
		}
		figures[o.name] = f
	}
	js := figures[all[0].name]
	short, same, long := figures[all[1].name], figures[all[2].name], figures[all[len(all)-1].name]
	for _, way := range []string{"stop", "kill"} {
		res.ratioAtMost("to the first snapshot / until JetStream serves, after a "+way, same[way+"_newest"], js[way+"_ready"], 0.5)
		res.ratioAtMost("to the first snapshot / until JetStream gave the newest of each, after a "+way, same[way+"_newest"], js[way+"_newest"], 0.5)
		res.ratioAtMost("to the first snapshot, rings ten times as long, after a "+way, long[way+"_newest"], short[way+"_newest"], 1.5)
	}
	res.note("%d Things; files in the page cache; %d updates come before each end", restartThings, restartMore)
	return err
}

// fillFor fills, a tenth at a time, until n are there or time is up. It
// gives how many there are, and stops the server.
func fillFor(ctx context.Context, k keeper, w *workload, n int, limit time.Duration) (filled int, err error) {
	start := time.Now()
	step := max(n/10/pieceUpdates, 1) * pieceUpdates
	for filled < n && err == nil && time.Since(start) < limit {
		filled = min(filled+step, n)
		err = k.fill(ctx, w, filled)
	}
	return filled, errors.Join(err, k.stop())
}

// restarts starts a server that was stopped, ends it in both ways with more
// updates before, and takes the times of the starts after that.
func restarts(ctx context.Context, k keeper, w *workload, total *int) (sample, error) {
	s := sample{}
	if _, _, err := k.restarted(ctx, *total); err != nil {
		return nil, err
	}
	for _, way := range []string{"stop", "kill"} {
		*total += restartMore
		err := k.fill(ctx, w, *total)
		if err != nil {
			return nil, err
		}
		if way == "kill" {
			k.kill()
		} else if err := k.stop(); err != nil {
			return nil, err
		}
		ready, newest, err := k.restarted(ctx, *total)
		if err != nil {
			return nil, fmt.Errorf("after a %s: %w", way, err)
		}
		s[way+"_ready"] = float64(ready) / float64(time.Millisecond)
		s[way+"_newest"] = float64(newest) / float64(time.Millisecond)
	}
	return s, k.stop()
}

// ownKeeper is tbhist.
type ownKeeper struct {
	*broker
	had int
}

func (b *bench) newOwnKeeper(ctx context.Context) (*ownKeeper, func(), error) {
	dir, remove, err := b.tempDir("tbhist")
	if err != nil {
		return nil, remove, err
	}
	br, err := b.startBroker(ctx, dir, "--ring", "1000000", "--max-db", "16GiB")
	return &ownKeeper{broker: br}, func() {
		if br.process != nil {
			br.kill()
		}
		remove()
	}, err
}

func (k *ownKeeper) fill(ctx context.Context, w *workload, total int) error {
	snd, err := k.sender(ctx)
	if err != nil {
		return err
	}
	defer snd.close()
	if err := snd.send(w.framed(), k.had, total); err != nil {
		return err
	}
	k.had = total
	return k.awaitHead(ctx, total)
}

func (k *ownKeeper) restarted(ctx context.Context, total int) (ready, newest time.Duration, err error) {
	start := time.Now()
	if err := k.start(ctx); err != nil {
		return 0, 0, err
	}
	ready = time.Since(start)
	parts, err := k.firstSnapshot(ctx)
	newest = time.Since(start)
	entries := 0
	for _, p := range parts {
		m, err := wire.ParseMessage(p)
		if err != nil {
			return 0, 0, err
		}
		if m.Snapshot.Seq != uint64(total) {
			return 0, 0, fmt.Errorf("the first snapshot is at %d, not %d", m.Snapshot.Seq, total)
		}
		entries += len(m.Snapshot.Entries)
	}
	if err == nil && entries != min(restartThings, total) {
		err = fmt.Errorf("the first snapshot has %d of %d Things", entries, restartThings)
	}
	return ready, newest, err
}

// firstSnapshot gives the messages of the snapshot that is there at once.
func (br *broker) firstSnapshot(ctx context.Context) (parts [][]byte, err error) {
	c, err := zmtp.Dial(ctx, br.addr(feedPort), zmtp.DialOptions{Role: zmtp.Sub, Limits: zmtp.Limits{MaxFrame: 64 << 20}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // nothing more is wanted of it
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := c.Subscribe([]byte(wire.SnapshotPrefix)); err != nil {
		return nil, err
	}
	for last := false; !last; {
		f, err := c.Read()
		if err != nil {
			return nil, err
		}
		if !bytes.HasPrefix(f.Body, []byte(wire.SnapshotPrefix)) {
			continue
		}
		parts = append(parts, bytes.Clone(f.Body))
		if last, err = lastPart(f.Body); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// natsKeeper is JetStream.
type natsKeeper struct {
	*natsPeer
	had int
}

func (b *bench) newNATSKeeper(ctx context.Context, ring int) (*natsKeeper, func(), error) {
	dir, remove, err := b.tempDir("nats")
	if err != nil {
		return nil, remove, err
	}
	p, err := b.startNATS(ctx, dir, false, ring)
	return &natsKeeper{natsPeer: p}, func() {
		if p.process != nil {
			p.close()
		}
		remove()
	}, err
}

func (k *natsKeeper) kill() { k.close() }

func (k *natsKeeper) fill(ctx context.Context, w *workload, total int) error {
	err := k.publish(ctx, w, k.had, total)
	k.had = total
	return err
}

func (k *natsKeeper) restarted(ctx context.Context, total int) (ready, newest time.Duration, err error) {
	start := time.Now()
	if err := k.start(ctx); err != nil {
		return 0, 0, err
	}
	stream, err := k.js.Stream(ctx, natsStream)
	if err != nil {
		return 0, 0, err
	}
	ready = time.Since(start)
	if n := stream.CachedInfo().State.Msgs; n != uint64(total) {
		return 0, 0, fmt.Errorf("the stream has %d of %d messages", n, total)
	}
	c, err := k.js.OrderedConsumer(ctx, natsStream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubjects: []string{natsStream + ".>"},
	})
	if err != nil {
		return 0, 0, err
	}
	got, all := 0, make(chan struct{})
	consuming, err := c.Consume(func(jetstream.Msg) {
		if got++; got == min(restartThings, total) {
			close(all)
		}
	}, jetstream.PullMaxMessages(natsPull))
	if err != nil {
		return 0, 0, err
	}
	defer consuming.Stop()
	err = wait(ctx, all)
	return ready, time.Since(start), err
}
