// Package ingest takes updates in over ZeroMQ and UDP, checks them, counts
// what it refuses, and gathers what it accepts into batches for the one
// consumer behind it.
//
// Every input decodes on its own goroutine into memory of its own, and hands
// whole bursts over under one lock. While the gathering batch is full the
// inputs wait there and read nothing: what a ZeroMQ peer sends then stays in
// its own queue, and datagrams in the kernel's.
package ingest

import (
	"log/slog"
	"sync"
	"time"

	"tbhist/internal/access"
	"tbhist/internal/wire"
	"tbhist/metrics"
	"tbhist/thing"
)

// Defaults of Options.
const (
	DefaultQueueBytes   = 8 << 20
	DefaultQueueUpdates = 16384
	DefaultUDPBuffer    = 4 << 20
)

// Options configure an Ingest.
type Options struct {
	// Limits bound one message; zero parts take wire's defaults.
	Limits wire.Limits
	// MaxThings bounds how many Things are known; 0 means no bound.
	MaxThings int
	// Deny are namespaces that are refused, with all below them. What is
	// known of them is refused too.
	Deny []thing.Name
	// Rate is how many messages a second are taken from one address; 0 means
	// no bound. Connections over it are not read until the next is due,
	// datagrams are refused.
	Rate int
	// QueueBytes and QueueUpdates are what makes a gathering batch full: the
	// bytes of data and documentation URLs, and the number of updates. A
	// batch goes over them by one burst of an input at most. 0 means the
	// default.
	QueueBytes, QueueUpdates int
	// UDPBuffer is the socket receive buffer that ServeUDP asks for, in
	// bytes. 0 means the default.
	UDPBuffer int
	// Guard decides which datagrams are looked at; nil lets all in.
	// (Connections are the listener's to refuse.)
	Guard *access.Guard
	// Metrics counts; indexed by thing.Transport and thing.Reason. Nil
	// means that nobody looks.
	Metrics *metrics.Ingest
	// Logger gets refusals; nil means none.
	Logger *slog.Logger
	// Now is the broker's clock; nil means time.Now.
	Now func() time.Time
}

// Ingest is the input of one broker. Its Serve functions run on any number
// of goroutines; Next and Release belong to one consumer.
type Ingest struct {
	o        Options
	metrics  *metrics.Ingest
	refusals *refusals
	bursts   sync.Pool // of *burst
	deny     deny
	rates    *rates // nil for no bound

	// ready holds a token when the consumer has something new to look at.
	ready chan struct{}

	mu     sync.Mutex // guards all below
	names  map[string]known
	slots  []uint32 // given back by Things that were forgotten
	warned bool     // of nearly as many Things as MaxThings
	closed bool
	gather *Batch
	free   []*Batch // given back, empty
	// between waits for the consumer to call it.
	between []func()
	// space is closed, and nil again, when the gathering batch was taken.
	// Inputs that wait make it.
	space chan struct{}
}

// New makes an Ingest; it starts nothing.
func New(o Options) *Ingest {
	if o.QueueBytes == 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.QueueUpdates == 0 {
		o.QueueUpdates = DefaultQueueUpdates
	}
	if o.UDPBuffer == 0 {
		o.UDPBuffer = DefaultUDPBuffer
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewIngest(nil, TransportNames(), ReasonCodes())
	}
	return &Ingest{
		o:        o,
		metrics:  o.Metrics,
		refusals: newRefusals(o.Logger, o.Now),
		bursts:   sync.Pool{New: func() any { return newBurst(o.Limits) }},
		ready:    make(chan struct{}, 1),
		deny:     newDeny(o.Deny),
		rates:    newRates(o.Rate),
		names:    make(map[string]known),
		gather:   &Batch{},
	}
}

// TransportNames lists the names of all transports by their number, as
// metrics wants them.
func TransportNames() []string {
	names := make([]string, thing.Transports)
	for t := range names {
		names[t] = thing.Transport(t).String()
	}
	return names
}

// ReasonCodes lists the codes of all reasons by their number, as metrics
// wants them.
func ReasonCodes() []string {
	codes := make([]string, thing.Reasons)
	for r := range codes {
		codes[r] = thing.Reason(r).String()
	}
	return codes
}

// known is a Thing as its updates name it.
type known struct {
	name thing.Name
	slot uint32 // from 1
	// refused tells that its updates are, and why; slot is of no use then.
	refused bool
	reason  thing.Reason
}

// Know makes a Thing known that was there before: it counts against
// MaxThings and is never refused.
func (in *Ingest) Know(name thing.Name) {
	in.mu.Lock()
	in.learn(name)
	warn := in.crowded()
	things := len(in.names)
	in.mu.Unlock()
	if warn {
		in.warn(things)
	}
}

// find finds a Thing, or makes a new one known if it may come and as long as
// there is room. It is called under mu.
func (in *Ingest) find(ns []byte) known {
	if k, ok := in.names[string(ns)]; ok {
		return k
	}
	switch {
	case in.deny.has(ns):
		return known{refused: true, reason: thing.ReasonDenied}
	case in.o.MaxThings > 0 && len(in.names) >= in.o.MaxThings:
		return known{refused: true, reason: thing.ReasonMaxThings}
	}
	return in.learn(thing.Name(ns))
}

// learn makes a Thing known. It is called under mu.
func (in *Ingest) learn(name thing.Name) known {
	k, ok := in.names[string(name)]
	if !ok {
		k = known{name: name, slot: in.slot()}
		if in.deny.has([]byte(name)) {
			k.refused, k.reason = true, thing.ReasonDenied
		}
		in.names[string(name)] = k
	}
	return k
}

// slot gives one that no known Thing has. With those given back, slots are as
// many as there ever were Things at once. It is called under mu.
func (in *Ingest) slot() uint32 {
	if n := len(in.slots); n > 0 {
		slot := in.slots[n-1]
		in.slots = in.slots[:n-1]
		return slot
	}
	return uint32(len(in.names)) + 1
}

// crowded tells, once, that 80 % of MaxThings are reached. It is called
// under mu.
func (in *Ingest) crowded() bool {
	if in.warned || in.o.MaxThings <= 0 || len(in.names)*10 < in.o.MaxThings*8 {
		return false
	}
	in.warned = true
	return true
}

func (in *Ingest) warn(things int) {
	in.o.Logger.Warn("80 % of --max-things are used: beyond it, new Things are refused",
		"things", things, "max", in.o.MaxThings)
}

// Close tells that all inputs have stopped: Next hands out what is left, and
// then io.EOF. An input that has not stopped is released from waiting, and
// ends.
func (in *Ingest) Close() {
	in.mu.Lock()
	in.closed = true
	in.makeSpace()
	in.mu.Unlock()
	in.wake()
}
