package publish

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"tbhist/thing"
)

// Publisher sends what was committed to subscribers, and answers questions
// about what was. Make one with New.
type Publisher struct {
	o       Options
	clock   clock
	encoder encoder // Publish's own
	found   []*subscriber

	// reads bounds how many subscribers read history at once.
	reads chan struct{}
	// pages is the room of the pages that subscribers hold, in bytes.
	pages atomic.Int64
	// answers bounds the history service.
	answers answers
	// making is held while a snapshot is made: before mu.
	making sync.Mutex

	mu     sync.Mutex // guards all below, and every subscriber's cursor
	window window
	routes trie[*subscriber] // what of their prefixes is behind updateHead
	subs   map[*subscriber]struct{}
	// waiting are idle subscribers that the next Publish wakes, whatever it
	// brings: those for whom every update is.
	waiting []*subscriber
	beats   uint64 // heartbeats so far
	snaps   snapshots
	past    past
	drained chan struct{} // unless nil, told when a subscriber becomes idle or leaves
}

// readsAtOnce gives how many subscribers may read history at the same time.
// More would only hold more memory, and one CPU is left to those that have
// nothing to catch up: with both of two taken, their p99 rises from 5 to
// 71 ms while ten others catch up, with one of them to 13 ms, and those ten
// take 0.9 s rather than 0.5 s.
func readsAtOnce() int { return max(1, min(4, runtime.GOMAXPROCS(0)-1)) }

// New makes a publisher; Run drives its clock. The store must be open and
// the directory restored: the head is read here.
func New(o Options) *Publisher {
	o = o.withDefaults()
	p := &Publisher{
		o:      o,
		clock:  clock{wall: o.Now, now: time.Now, after: afterFunc},
		past:   past{lag: o.MaxLag},
		reads:  make(chan struct{}, readsAtOnce()),
		window: newWindow(o.WindowBytes, o.Store.State().Head),
		subs:   map[*subscriber]struct{}{},
	}
	p.answers.init()
	o.Metrics.ObserveLag(p.lag)
	return p
}

// NextPosition gives the ordinal that the next Publish will give its batch:
// what the directory is to be told of it before. Only the goroutine that
// calls Publish may ask.
func (p *Publisher) NextPosition() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.window.batch + 1
}

// Publish sends a batch, in its order: updates with a Seq of 0 as not kept.
// It copies what it needs. Called from one goroutine, after the batch was
// applied to the directory under NextPosition, which it gives back.
func (p *Publisher) Publish(batch []thing.Update) (position uint64) {
	p.mu.Lock()
	position = p.window.batch + 1
	head := p.window.head
	p.mu.Unlock()
	chunks := p.encoder.encode(batch, position, head)
	now := p.clock.now()

	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.waiting
	p.waiting = p.waiting[:0]
	for _, s := range waiting {
		s.waits = false
		s.rise(now)
	}
	for _, c := range chunks {
		p.window.push(c)
		p.route(c, now)
		if !c.kept() {
			p.o.Metrics.Unkept.Add(float64(len(c.msgs)))
		}
	}
	p.window.batch = position
	p.past.note(now, p.window.head)
	for c := p.window.evict(); c != nil; c = p.window.evict() {
		if !c.kept() {
			p.miss(c)
		}
	}
	clear(waiting)
	return position
}

// route wakes the idle subscribers that a chunk, the newest, is for.
func (p *Publisher) route(c *chunk, now time.Time) {
	if p.routes.held == 0 {
		return
	}
	for i := range c.msgs {
		p.found = p.routes.find(c.body(i)[len(updateHead):], c.ord, p.found[:0])
		for _, s := range p.found {
			if s.idle {
				s.rise(now)
				// It passes over what came before in this batch.
				s.next, s.after = c.ord, c.base
			}
		}
	}
}

// miss counts the unkept updates of a chunk that left the window for those
// who have not come to it: they are nowhere else.
func (p *Publisher) miss(c *chunk) {
	for s := range p.subs {
		if s.idle || s.next > c.ord {
			continue
		}
		if n := c.matching(s.matcher(), 0); n > 0 {
			s.skipped.add(c.base, c.base, n)
			p.o.Metrics.Skipped.Add(float64(n))
		}
	}
}

// Run sends heartbeats and snapshots until ctx ends; then it returns nil.
func (p *Publisher) Run(ctx context.Context) error {
	beats := time.NewTicker(p.o.Heartbeat)
	defer beats.Stop()
	snapshots := time.NewTicker(p.o.SnapshotInterval)
	defer snapshots.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beats.C:
			p.beat()
		case <-snapshots.C:
			p.snapshotAll()
		}
	}
}

// Drain waits until every subscriber was sent what is published, or gives
// the context's error. Called after the last Publish, while the feed's
// listener still runs.
func (p *Publisher) Drain(ctx context.Context) error {
	p.mu.Lock()
	p.drained = make(chan struct{}, 1)
	drained := p.drained
	p.mu.Unlock()
	for {
		if p.settled() {
			return nil
		}
		select {
		case <-drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settled tells whether everybody is idle: has all, and has it flushed.
func (p *Publisher) settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.subs {
		if !s.idle {
			return false
		}
	}
	return true
}

// noteIdle tells Drain that a subscriber became idle or left.
func (p *Publisher) noteIdle() {
	if p.drained != nil {
		select {
		case p.drained <- struct{}{}:
		default:
		}
	}
}

// lag gives how far the slowest subscriber is behind, in seconds.
func (p *Publisher) lag() float64 {
	now, wall := p.clock.now(), p.clock.wall()
	var most time.Duration
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.subs {
		most = max(most, s.lag(now, wall))
	}
	return most.Seconds()
}

// clock is the time, for tests to replace.
type clock struct {
	// wall is the time of day, for what is told and for what it is held
	// against. It may step by years.
	wall func() time.Time
	// now goes on evenly, whatever becomes of the time of day: how long
	// something takes is measured by it, and by nothing else.
	now func() time.Time
	// after calls f once d has passed, unless it was stopped before.
	after func(d time.Duration, f func()) (stop func())
}

func afterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}
