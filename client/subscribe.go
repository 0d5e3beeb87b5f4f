package client

import "sync/atomic"

// ThingEvent is one datum of a Thing as it comes in.
type ThingEvent struct {
	// Thing is whose data it is; the directory has it by now.
	Thing Thing
	// Update is the data. Its bytes are shared: they may be kept, but not
	// written to.
	Update Update
	// Snapshot tells that it is an entry of a snapshot: it may be known
	// already. Update.Doc is the documentation URL in force then.
	Snapshot bool
	// Dropped counts the events before this one that were let go because
	// the loop over Events was too slow. Always 0 for a function.
	Dropped uint64
}

// Subscription is one that Thing.Subscribe began.
type Subscription struct {
	f               func(ThingEvent)
	d               *Directory
	node            *node
	tree, snapshots bool
	closed          atomic.Bool
}

// SubscribeOption changes what Subscribe and Events take.
type SubscribeOption func(*Subscription)

// WithTree asks for the Things below, too.
func WithTree() SubscribeOption { return func(s *Subscription) { s.tree = true } }

// WithSnapshots asks for the entries of snapshots, too: all Things when a
// connection is made, and every 15 s or as the broker is set (not with
// DirectoryOf).
func WithSnapshots() SubscribeOption { return func(s *Subscription) { s.snapshots = true } }

// Subscribe has f called with each update of the Thing, until the
// subscription is closed. Run calls all functions, one after the other, in
// the order of the updates: for each update first those of its own Thing,
// then those of the one above that asked for the tree, up to the root; of one
// Thing, in the order in which they were subscribed. So f should not take
// long, or it holds all others back, and the broker at last leaves updates
// out. It may use the directory, subscribe and close.
//
// What is published while there is no connection does not come; a snapshot
// has the newest of each Thing, and Follow lacks nothing. Subscribe before
// Run to have the first snapshot.
//
// The error is that of Err.
func (t Thing) Subscribe(f func(ThingEvent), options ...SubscribeOption) (*Subscription, error) {
	if err := t.Err(); err != nil {
		return nil, err
	}
	s := &Subscription{f: f, d: t.d}
	for _, o := range options {
		o(s)
	}
	t.d.mu.Lock()
	defer t.d.mu.Unlock()
	s.node = t.d.node(t.name)
	s.node.subscriptions = append(s.node.subscriptions, s)
	return s, nil
}

// Close ends the subscription. No call begins after it; one may be at work on
// Run's goroutine. It may be called again.
func (s *Subscription) Close() {
	if s.closed.Swap(true) {
		return
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.node.subscriptions = without(s.node.subscriptions, s)
	s.d.prune(s.node)
}

// deliver takes an update over and calls who listens. Only Run calls it.
func (d *Directory) deliver(u *Update, snapshot bool) {
	if !u.Name.Under(d.name) {
		return
	}
	d.mu.Lock()
	var dropped *node
	if d.fits(u) {
		d.set(d.node(u.Name), u)
	} else {
		d.state.NoRoom++
		if dropped = d.nodes[u.Name]; dropped != nil {
			d.unset(dropped) // rather nothing than what is no longer so
		}
	}
	if u.Seq > d.state.Seq && !snapshot {
		d.state.Seq = u.Seq
	}
	d.called = d.called[:0]
	for at := d.nearest(u.Name); at != nil; at = at.parent {
		for _, s := range at.subscriptions {
			if (at.name == u.Name || s.tree) && (!snapshot || s.snapshots) {
				d.called = append(d.called, s)
			}
		}
	}
	d.prune(dropped)
	d.mu.Unlock()
	for i, s := range d.called {
		d.called[i] = nil
		if !s.closed.Load() {
			s.f(ThingEvent{Thing: Thing{d, u.Name}, Update: *u, Snapshot: snapshot})
		}
	}
}
