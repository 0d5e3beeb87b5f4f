// Package thing holds the words of the domain: names of Things, updates,
// sources and the reasons for refusing input. It imports nothing but the
// standard library, and everything else may import it.
package thing

import (
	"net/netip"
	"time"
)

// Update is one datum of a Thing with its time.
type Update struct {
	Name Name
	// Data is the datum: one valid JSON value without insignificant white
	// space, number digits and member order as they came in.
	Data []byte
	// Doc is the documentation URL that this update carried, as compact
	// JSON; nil stands for null.
	Doc []byte
	// TS is the time the source gave, in seconds since 1970; the broker's
	// clock where it gave none.
	TS float64
	// Received is the broker's clock at arrival.
	Received Micros
	// Seq numbers the kept updates of the whole history from 1, ThingSeq
	// those of this Thing. Both are 0 until the update is on disk, and stay
	// 0 for one that was not kept.
	Seq, ThingSeq uint64
	// Slot is the number that the input gave the Thing, from 1, the same as
	// long as the broker runs; 0 for none. It is a hint for Slots, and kept
	// nowhere.
	Slot uint32
	// Source is who sent it: known while the broker runs, not kept in
	// history. Shared between the updates of one peer and never written to.
	Source *Source
}

// Kept tells whether the update is in history.
func (u *Update) Kept() bool { return u.Seq != 0 }

// Size is what byte limits count: the bytes of Data and Doc.
func (u *Update) Size() int { return len(u.Data) + len(u.Doc) }

// Micros is an instant of the broker's clock: microseconds since 1970.
// Instants within ±1e11 seconds can be told apart and printed exactly.
type Micros int64

// MicrosOf converts a time.
func MicrosOf(t time.Time) Micros { return Micros(t.UnixMicro()) }

// MicrosOfSeconds converts seconds since 1970, rounding to the nearest
// microsecond.
func MicrosOfSeconds(s float64) Micros {
	if s < 0 {
		return Micros(s*1e6 - 0.5)
	}
	return Micros(s*1e6 + 0.5)
}

// Time converts to a time in UTC.
func (m Micros) Time() time.Time { return time.UnixMicro(int64(m)).UTC() }

// Seconds converts to seconds since 1970.
func (m Micros) Seconds() float64 { return float64(m) / 1e6 }

// Transport is the way an update came in.
type Transport uint8

// The transports, in the order of their names in metrics.
const (
	ZMQ Transport = iota
	UDP
	Transports // how many there are
)

// String gives the name used in metrics, logs and on the wire.
func (t Transport) String() string {
	switch t {
	case ZMQ:
		return "zmq"
	case UDP:
		return "udp"
	}
	return "unknown"
}

// Source is one sender: an address without port, so that a sender that
// binds a new port for each datagram stays one.
type Source struct {
	Addr      netip.Addr
	Transport Transport
}
