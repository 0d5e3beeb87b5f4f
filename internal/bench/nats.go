package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsStream is the stream that all updates go to, a subject for each Thing.
const natsStream = "things"

// natsPeer is a running NATS server with a stream and a publisher.
type natsPeer struct {
	*process
	dir    string
	always bool // sync
	ring   int
	pub    *nats.Conn
	sub    *nats.Conn
	js     jetstream.JetStream // of pub
	failed chan error          // the first failure to publish
}

// startNATS starts a server that keeps the newest ring updates of each
// Thing.
func (b *bench) startNATS(ctx context.Context, dir string, always bool, ring int) (*natsPeer, error) {
	p := &natsPeer{dir: dir, always: always, ring: ring, failed: make(chan error, 1)}
	return p, p.start(ctx)
}

// start starts the server on what is in its directory.
func (p *natsPeer) start(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), natsChildEnv+"="+p.dir)
	if p.always {
		cmd.Env = append(cmd.Env, natsSyncEnv+"=always")
	}
	started, err := startProcess(cmd, cmd.StdoutPipe)
	if err != nil {
		return err
	}
	p.process = started
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	line, err := p.await(ctx, "listening ")
	if err != nil {
		return err
	}
	url := strings.TrimPrefix(line, "listening ")
	if p.pub, err = nats.Connect(url); err != nil {
		return err
	}
	if p.sub, err = nats.Connect(url); err != nil {
		return err
	}
	if p.js, err = jetstream.New(p.pub,
		jetstream.WithPublishAsyncMaxPending(4096),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
			select {
			case p.failed <- err:
			default:
			}
		})); err != nil {
		return err
	}
	_, err = p.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: natsStream, Subjects: []string{natsStream + ".>"},
		Storage: jetstream.FileStorage, MaxMsgsPerSubject: int64(p.ring), Discard: jetstream.DiscardOld,
	})
	return err
}

// restart ends the server in good order and starts it anew.
func (p *natsPeer) restart(ctx context.Context) error {
	if err := p.stop(); err != nil {
		return err
	}
	return p.start(ctx)
}

// close ends it at once.
func (p *natsPeer) close() {
	if p.pub != nil {
		p.pub.Close()
	}
	if p.sub != nil {
		p.sub.Close()
	}
	p.kill()
}

// stop ends the server in good order, so that its files are whole.
func (p *natsPeer) stop() error {
	p.pub.Close()
	p.sub.Close()
	return p.end(p.stdin.Close)
}

// publish sends the updates from and below to, and waits until all of them
// are acknowledged.
func (p *natsPeer) publish(ctx context.Context, w *workload, from, to int) error {
	for i := from; i < to; i++ {
		for {
			_, err := p.js.PublishAsync(natsStream+"."+w.names[i%cycle], w.payloads[i%cycle], jetstream.WithStallWait(time.Second))
			if err == nil {
				break
			}
			// A slow server is waited for, one that is gone is not.
			if !errors.Is(err, jetstream.ErrTooManyStalledMsgs) || !p.pub.IsConnected() || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
		}
	}
	select {
	case <-p.js.PublishAsyncComplete(): // at once when there are none
	case <-time.After(deadline):
		return errors.New("NATS does not acknowledge all updates")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.failed:
		return err
	default:
		return nil
	}
}

// consume starts an ordered consumer; done is closed when it has received n
// messages.
func (p *natsPeer) consume(ctx context.Context, from jetstream.DeliverPolicy, n int) (done <-chan struct{}, stop func(), err error) {
	js, err := jetstream.New(p.sub)
	if err != nil {
		return nil, nil, err
	}
	c, err := js.OrderedConsumer(ctx, natsStream, jetstream.OrderedConsumerConfig{DeliverPolicy: from})
	if err != nil {
		return nil, nil, err
	}
	got, all := 0, make(chan struct{})
	consuming, err := c.Consume(func(jetstream.Msg) {
		if got++; got == n {
			close(all)
		}
	}, jetstream.PullMaxMessages(natsPull))
	if err != nil {
		return nil, nil, err
	}
	return all, consuming.Stop, nil
}

// natsPull is how many messages are asked for at a time.
const natsPull = 5000

// replayed gives how long an ordered consumer takes for n messages.
func (p *natsPeer) replayed(ctx context.Context, n int) (time.Duration, error) {
	start := time.Now()
	done, stop, err := p.consume(ctx, jetstream.DeliverAllPolicy, n)
	if err != nil {
		return 0, err
	}
	defer stop()
	err = wait(ctx, done)
	return time.Since(start), err
}

// wait waits for what a consumer is to receive.
func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-time.After(deadline):
		return fmt.Errorf("not all is received within %s", deadline)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nats runs f with a server.
func (b *bench) nats(ctx context.Context, always bool, ring int, f func(p *natsPeer) error) error {
	dir, remove, err := b.tempDir("nats")
	defer remove()
	if err != nil {
		return err
	}
	p, err := b.startNATS(ctx, dir, always, ring)
	if err != nil {
		return err
	}
	defer p.close()
	return f(p)
}

// natsLive measures publishing with one live consumer.
func (b *bench) natsLive(ctx context.Context, always bool, ring int, w *workload, from, to int) (s sample, err error) {
	err = b.nats(ctx, always, ring, func(p *natsPeer) error {
		if err := p.publish(ctx, w, 0, from); err != nil {
			return err
		}
		all, stop, err := p.consume(ctx, jetstream.DeliverNewPolicy, to-from)
		if err != nil {
			return err
		}
		defer stop()
		before, start := cpuSeconds(p.cmd.Process.Pid), time.Now()
		if err := p.publish(ctx, w, from, to); err != nil {
			return err
		}
		err = wait(ctx, all)
		s = rate(to-from, time.Since(start))
		s["cpu_us"] = 1e6 * (cpuSeconds(p.cmd.Process.Pid) - before) / float64(to-from)
		return err
	})
	return s, err
}
