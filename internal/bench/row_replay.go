package main

import (
	"context"
	"errors"
	"fmt"

	"tbhist/client"
	"tbhist/internal/wire"
)

// replay compares how fast a client is given all that is kept, by a server
// that was just started on it.
func replay(ctx context.Context, b *bench, res *result) error {
	const things, ring = 1000, 1000
	n := b.count(400_000)
	w := b.workload(things)
	return b.filled(ctx, w, n, []string{"--ring", fmt.Sprint(ring)}, func(br *broker) error {
		return b.nats(ctx, false, ring, func(p *natsPeer) error {
			if err := p.publish(ctx, w, 0, n); err != nil {
				return err
			}
			if err := p.restart(ctx); err != nil {
				return err
			}
			pages := func(size int) func(context.Context) (sample, error) {
				return func(ctx context.Context) (s sample, err error) {
					err = br.profiled(ctx, fmt.Sprintf("replay-%d", size>>10), func() error {
						s, err = replayAll(ctx, br, size, n)
						return err
					})
					return s, err
				}
			}
			got, err := b.alternate(ctx,
				contestant{"pages of 4 MiB", pages(4 << 20)},
				contestant{"pages of 256 KiB", pages(256 << 10)},
				contestant{"package client", func(ctx context.Context) (sample, error) { return replayParsed(ctx, br, n) }},
				contestant{"JetStream", func(ctx context.Context) (sample, error) {
					took, err := p.replayed(ctx, n)
					return rate(n, took), err
				}})
			own := res.figure("pages of 4 MiB", "updates/s", got["pages of 4 MiB"]["rate"])
			small := res.figure("pages of 256 KiB", "updates/s", got["pages of 256 KiB"]["rate"])
			parsed := res.figure("package client, every update parsed", "updates/s", got["package client"]["rate"])
			peer := res.figure("JetStream's ordered consumer", "updates/s", got["JetStream"]["rate"])
			res.ratio("pages of 4 MiB / JetStream's ordered consumer", own, peer, 3)
			res.ratio("pages of 256 KiB / JetStream's ordered consumer", small, peer, 0)
			res.ratio("package client / JetStream's ordered consumer", parsed, peer, 0)
			res.note("%d updates", n)
			return err
		})
	})
}

func replayAll(ctx context.Context, br *broker, page, n int) (sample, error) {
	a, err := br.asker(ctx)
	if err != nil {
		return nil, err
	}
	defer a.close()
	a.page = page
	count, took, _, err := a.ask(ctx, wire.Request{})
	if err == nil && count != n {
		err = fmt.Errorf("%d of %d updates", count, n)
	}
	return rate(n, took), err
}

// replayParsed replays as a program does that uses package client.
func replayParsed(ctx context.Context, br *broker, n int) (sample, error) {
	c, err := client.New(client.Options{Broker: "tcp://" + br.addr(feedPort)})
	if err != nil {
		return nil, err
	}
	count := 0
	took, err := timed(func() error {
		for _, err := range c.Replay(ctx, client.Query{}).Updates() {
			if err != nil {
				return err
			}
			count++
		}
		return nil
	})
	if err == nil && count != n {
		err = fmt.Errorf("%d of %d updates", count, n)
	}
	return rate(n, took), err
}

// filled runs f with a broker that was started on a history of n updates.
func (b *bench) filled(ctx context.Context, w *workload, n int, args []string, f func(br *broker) error) error {
	return b.live(ctx, args, func(br *broker, snd *sender, sub *subscriber) error {
		if _, err := pump(ctx, snd, sub, w, 0, n); err != nil {
			return err
		}
		snd.close()
		sub.close()
		if err := br.stop(); err != nil {
			return errors.Join(errors.New("stopping the broker"), err)
		}
		if err := br.start(ctx); err != nil {
			return err
		}
		return f(br)
	})
}
