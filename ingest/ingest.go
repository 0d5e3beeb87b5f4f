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

	// ready holds a token when the consumer has something new to look at.
	ready chan struct{}

	mu     sync.Mutex // guards all below
	names  map[string]known
	warned bool // of nearly as many Things as MaxThings
	closed bool
	gather *Batch
	free   []*Batch // given back, empty
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

// find finds a Thing, or makes a new one known as long as there is room. It
// is called under mu.
func (in *Ingest) find(ns []byte) (k known, ok bool) {
	if k, ok = in.names[string(ns)]; ok {
		return k, true
	}
	if in.o.MaxThings > 0 && len(in.names) >= in.o.MaxThings {
		return known{}, false
	}
	return in.learn(thing.Name(ns)), true
}

// learn makes a Thing known. It is called under mu.
func (in *Ingest) learn(name thing.Name) known {
	k, ok := in.names[string(name)]
	if !ok {
		k = known{name, uint32(len(in.names)) + 1}
		in.names[string(name)] = k
	}
	return k
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
