package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"tbhist/store"
)

// drainTime is how long a broker that is told to stop may take.
const drainTime = 5 * time.Second

// part is one goroutine of the broker with what ends it.
type part struct {
	name string
	stop context.CancelFunc
	done chan struct{} // closed when it has ended
}

// parts are the running parts of a broker.
type parts struct {
	b      *broker
	failed chan error // the first failure of each part
	all    []*part
}

// start runs f in a goroutine until the part is stopped. An end that nobody
// asked for is a failure.
func (p *parts) start(name string, f func(ctx context.Context) error) *part {
	ctx, stop := context.WithCancel(context.Background())
	one := &part{name: name, stop: stop, done: make(chan struct{})}
	p.all = append(p.all, one)
	go func() {
		defer close(one.done)
		err := f(ctx)
		if ctx.Err() == nil && err == nil && name != partPipeline {
			err = errors.New("ended by itself")
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			p.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
	return one
}

// end stops parts together and waits for them, or for the deadline.
func end(deadline context.Context, some ...*part) error {
	for _, one := range some {
		one.stop()
	}
	return wait(deadline, some...)
}

func wait(deadline context.Context, some ...*part) error {
	var errs []error
	for _, one := range some {
		select {
		case <-one.done:
		case <-deadline.Done():
			errs = append(errs, fmt.Errorf("%s did not end in time", one.name))
		}
	}
	return errors.Join(errs...)
}

const partPipeline = "pipeline"

// Run runs the broker until ctx ends or a part fails, then closes it. ready
// is called once everything listens.
//
// The order of shutting down is that of the data: first what makes more
// work, last what everything else needs. It goes on after an error, and is
// bounded by drainTime as a whole:
//
//  1. /readyz turns 503, so that who watches it sends nothing more.
//  2. input and udp stop: nothing more comes in. What they had read is in
//     ingest.
//  3. The pipeline commits and publishes what is in ingest, and ends.
//  4. Subscribers get what was published; feed and history still listen.
//  5. feed, history, clock and http stop: nobody reads the store any more.
//  6. The history is closed. It comes last, and even when all of the above
//     failed: a checkpoint makes the next start fast. What it did not get to
//     is found in the log then.
func (b *broker) Run(ctx context.Context, ready func()) error {
	p := &parts{b: b, failed: make(chan error, 16)}
	pipeline := p.start(partPipeline, b.pipeline)
	clock := p.start("clock", b.publisher.Run)
	feed := p.start(endpointFeed, b.feed.Run)
	history := p.start(endpointHistory, b.history.Run)
	web := p.start(endpointHTTP, b.serveHTTP)
	input := p.start(endpointInput, b.input.Run)
	udp := p.start(endpointUDP, b.serveUDP)
	last := []*part{feed, history, clock, web, pipeline}
	if b.watchdog != nil {
		last = append(last, p.start("watchdog", b.watchdog.run))
	}

	b.unready.Store(nil)
	ready()
	var errs []error
	select {
	case <-ctx.Done():
	case err := <-p.failed:
		errs = append(errs, err)
	}

	deadline, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	late := func(err error) {
		if err != nil {
			b.log.Warn("closing: not everything was done in time", "err", err)
		}
	}
	b.setUnready("closing")
	late(end(deadline, input, udp))
	b.ingest.Close()
	// A disk that hangs may not hold the pipeline for ever.
	stop := context.AfterFunc(deadline, pipeline.stop)
	late(wait(deadline, pipeline))
	stop()
	late(drain(deadline, b.publisher.Drain))
	late(end(deadline, last...))
	b.sockets.close()
	closed := make(chan error, 1)
	go func() { closed <- b.db.Close() }()
	select {
	case err := <-closed:
		errs = append(errs, err)
	case <-deadline.Done():
		late(errors.New("the history was not closed; the next start reads its log"))
	}
	for len(p.failed) > 0 {
		errs = append(errs, <-p.failed)
	}
	return errors.Join(errs...)
}

// drainShare is the part of drainTime that slow subscribers may use up.
const drainShare = 3 * time.Second

func drain(deadline context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(deadline, drainShare)
	defer cancel()
	if err := f(ctx); err != nil {
		return fmt.Errorf("some subscribers have not taken everything: %w", err)
	}
	return nil
}

// pipeline carries batches through the broker: committed, then in the
// directory, then published. The directory comes before publishing, so that
// a snapshot is never older than what its subscriber has seen. Between two of
// them it does what forget asks for. It ends when ingest is closed and empty, or
// when ctx does.
func (b *broker) pipeline(ctx context.Context) error {
	defer close(b.piped)
	for {
		batch, err := b.ingest.Next(ctx, b.s.gather)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b.pulse.begin()
		committed, err := b.db.Append(ctx, batch.Updates)
		switch {
		case errors.Is(err, store.ErrNotKept):
			// The feed goes on without history rather than fall silent.
			committed = batch.Updates
			for i := range committed {
				committed[i].Seq, committed[i].ThingSeq = 0, 0
			}
		case err != nil:
			return err
		}
		b.directory.Apply(committed, b.publisher.NextPosition())
		b.publisher.Publish(committed)
		b.ingest.Release(batch)
		b.pulse.end()
	}
}

// serveUDP takes datagrams in.
func (b *broker) serveUDP(ctx context.Context) error {
	return b.ingest.ServeUDP(ctx, b.sockets.udp)
}

// serveHTTP serves HTTP until ctx ends, and then lets answers under way be
// finished for a second.
func (b *broker) serveHTTP(ctx context.Context) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if b.http.Shutdown(grace) != nil {
			_ = b.http.Close()
		}
	})
	err := b.http.Serve(b.sockets.http)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
