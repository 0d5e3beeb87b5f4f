package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tbhist/thing"
)

// Directory is a copy of a broker's directory in this program: the latest of
// each Thing, kept up to date while Run runs.
//
//	d := c.Directory()
//	go d.Run(ctx)
//	if err := d.Ready(ctx); err != nil {
//		return err
//	}
//	age, data, ok := d.Thing("spacemon.electronics").Data()
//
// It begins empty, is filled by the snapshot that the broker sends at once,
// and then by each update. The last one to arrive counts; their times are not
// compared. What it has it keeps, also while there is no broker and after Run
// has ended: a Thing that the broker no longer lists stays as it was. That may
// be one that the broker was told to forget, but snapshots do not say so: quiet
// Things are not listed either by a broker that hides them
// (serve --snapshot-expire), nor by an original one. Who must know asks
// Client.Things, or begins with a new Directory.
//
// A Directory may be used by several goroutines.
type Directory struct {
	client *Client
	name   thing.Name
	now    func() time.Time // time.Now, but in tests

	mu      sync.RWMutex // guards what follows
	nodes   map[thing.Name]*node
	bytes   int64 // that nodes takes
	state   DirectoryState
	ready   bool          // a whole snapshot has come, ever
	watches []*watch      // of the state
	running bool          // Run runs
	ended   error         // why it has ended; nil while it runs, and before
	changed chan struct{} // closed, and made anew, when any of that changes

	called []*Subscription // scratch space of Run
}

// DirectoryState is how a Directory is connected, and what it could not use.
type DirectoryState struct {
	// Connected tells that the broker is there; Since is when that last
	// changed, zero before it was first connected.
	Connected bool
	Since     time.Time
	// Complete tells that a whole snapshot has come over this connection:
	// nothing is older than what the broker has, and nothing is missing but
	// what NoRoom and Skipped count.
	Complete bool
	// Broker is tcp://HOST:PORT of the broker connected to, or to which it
	// was last; "" before.
	Broker string
	// Err is why it is not Connected; nil while it is, and at first.
	Err error
	// Connections counts how often it was connected.
	Connections uint64

	// Epoch is the name of the broker's history, Seq the newest number in
	// it that was heard of; "" and 0 while not known, and from a broker
	// without history.
	Epoch string
	Seq   uint64
	// Degraded tells that the broker cannot write to its disk, by its last
	// heartbeat.
	Degraded bool

	// Unreadable counts messages that were none of a broker's.
	Unreadable uint64
	// Skipped counts the entries of snapshots that could not be taken: no
	// object, no data, a bad name or a bad time.
	Skipped uint64
	// NoRoom counts the updates, and entries of snapshots, that would have
	// made the directory larger than Options.MaxDirectory: those Things have
	// no data in it. Subscriptions are called all the same.
	NoRoom uint64
	// Overtaken counts the updates that the broker left out because this
	// connection was read too slowly. A snapshot makes the directory whole
	// again.
	Overtaken uint64
}

func newDirectory(c *Client, name thing.Name) *Directory {
	return &Directory{client: c, name: name, now: time.Now, nodes: map[thing.Name]*node{}, changed: make(chan struct{})}
}

// Directory gives the client's directory of all Things: the same each time.
// Nothing is heard of before its Run is called.
func (c *Client) Directory() *Directory { return c.directory }

// DirectoryOf makes a directory of the Thing of this name and all below it,
// with a connection of its own: the broker sends the updates of no others.
// Only one snapshot, of all Things, is taken over each connection, and
// another when the broker has left something out. If name is no namespace,
// Run ends with an *InvalidError.
func (c *Client) DirectoryOf(name thing.Name) *Directory { return newDirectory(c, name) }

// Run connects and keeps the directory up to date until ctx ends, whose error
// it then returns. All listeners are called on this goroutine. A connection
// that is lost is made again, and the zone asked again, with pauses of up to
// 5 s.
//
// Until the first message has come, any error ends Run: as a NoBrokerError
// if there is no broker. WaitForBroker has it try on. When Run has ended it
// may be called again, but there is one at a time.
func (d *Directory) Run(ctx context.Context, options ...FollowOption) error {
	if err := d.Root().Err(); err != nil {
		return err
	}
	if err := d.start(); err != nil {
		return err
	}
	l := &live{d: d, retry: newBackoff()}
	wait := followOptionsOf(options).wait
	err := endless(ctx, &l.retry, l.session, func(err error) error {
		if !l.heard && !wait {
			return err
		}
		d.disconnected(err)
		return nil
	})
	d.end(err)
	return err
}

var errRunning = errors.New("the directory is kept up to date already: Run is called twice")

func (d *Directory) start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		return errRunning
	}
	d.running, d.ended = true, nil
	return nil
}

func (d *Directory) end(err error) {
	d.disconnected(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running, d.ended = false, err
	d.tell()
}

// tell wakes who waits for a change; d.mu is held.
func (d *Directory) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// Ready waits for the first snapshot: from then on a Thing that has no data
// had none at the broker. It returns the error of Run if that has ended
// before, or that of ctx together with why there is no broker. Once there was
// a snapshot it returns nil at once.
func (d *Directory) Ready(ctx context.Context) error {
	for {
		d.mu.RLock()
		ready, ended, why, changed := d.ready, d.ended, d.state.Err, d.changed
		d.mu.RUnlock()
		switch {
		case ready:
			return nil
		case ended != nil:
			return ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if why != nil {
				return fmt.Errorf("there is no directory yet: %w (%w)", why, ctx.Err())
			}
			return ctx.Err()
		}
	}
}

// State tells how it is connected now.
func (d *Directory) State() DirectoryState {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.state
}

// watch is a listener on the state.
type watch struct{ f func(DirectoryState) }

// OnState has f called, by Run, whenever the broker is there or gone, when
// the directory is complete again, and when the broker's history or disk is
// another matter than before. stop ends it.
func (d *Directory) OnState(f func(DirectoryState)) (stop func()) {
	w := &watch{f}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watches = append(d.watches, w)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.watches = without(d.watches, w)
	}
}

// change changes the state, and tells who listens.
func (d *Directory) change(f func(*DirectoryState)) {
	d.mu.Lock()
	before := d.state
	f(&d.state)
	after := d.state
	d.ready = d.ready || after.Complete
	d.tell()
	watches := d.watches
	d.mu.Unlock()
	if before.Connected == after.Connected && before.Complete == after.Complete &&
		before.Epoch == after.Epoch && before.Degraded == after.Degraded {
		return
	}
	for _, w := range watches {
		w.f(after)
	}
}

func (d *Directory) connected(broker string) {
	d.change(func(s *DirectoryState) {
		s.Connected, s.Complete, s.Since, s.Broker, s.Err = true, false, d.now(), broker, nil
		s.Connections++
	})
}

func (d *Directory) disconnected(why error) {
	d.change(func(s *DirectoryState) {
		if s.Connected {
			s.Since = d.now()
		}
		s.Connected, s.Complete, s.Err = false, false, why
	})
}
