// Package zmtp speaks ZeroMQ's wire protocol, ZMTP 3, over TCP: listeners
// that hostile peers cannot hurt (docs/PROTOCOL.md, What a listener must
// withstand) and dialers that come back. Greeting and READY are go-zeromq's
// work, behind a guard that checks every byte first; from then on frames are
// read and written by this package. It is the only importer of zmq4 outside
// tests.
//
// To its peers it is a ZMTP 3.0 peer: it sends subscriptions as messages,
// and takes those of 3.0 (messages) and 3.1 (commands).
package zmtp

import (
	"math"
	"slices"
	"time"
)

// Role is a ZeroMQ socket type.
type Role string

// The roles that can be listened or dialled with.
const (
	Pub    Role = "PUB"
	Sub    Role = "SUB"
	Router Role = "ROUTER"
	Req    Role = "REQ"
	Dealer Role = "DEALER"
)

// accepts tells whether a peer that says it is a socket of type peer may
// talk with role r.
func (r Role) accepts(peer string) bool {
	return slices.Contains(r.peers(), peer)
}

func (r Role) peers() []string {
	switch r {
	case Pub:
		return []string{"SUB", "XSUB"}
	case Sub:
		return []string{"PUB", "XPUB"}
	case Router:
		return []string{"REQ", "DEALER", "ROUTER"}
	case Req:
		return []string{"ROUTER", "REP"}
	case Dealer:
		return []string{"ROUTER", "REP", "DEALER"}
	}
	return nil
}

// Limits bound what one peer, and all of them, can cost. A zero field means
// the value of DefaultLimits; for a Router, 64 KiB a frame, 128 KiB and 64
// parts a message.
type Limits struct {
	// MaxConns is how many connections a listener holds, those still in
	// their handshake too.
	MaxConns int
	// MaxPerAddr is how many of them may come from one address; loopback
	// is exempt.
	MaxPerAddr int
	// MaxHandshakes is how many may be in their handshake; the oldest is
	// closed when one more comes.
	MaxHandshakes int
	// Handshake is how long a handshake may last.
	Handshake time.Duration
	// MaxFrame bounds the body of one frame, in bytes.
	MaxFrame int64
	// MaxOversize, when above MaxFrame, lets frames up to this size be read
	// past without being held: Read gives them as Oversize with their first
	// bytes. A frame beyond both closes the connection. 0 means none.
	MaxOversize int64
	// MaxMessage bounds one message, the bodies of all its parts together;
	// MaxParts how many parts it has.
	MaxMessage int64
	MaxParts   int
	// MaxSubscriptions and MaxSubscriptionBytes bound the different
	// prefixes that one connection is subscribed to.
	MaxSubscriptions     int
	MaxSubscriptionBytes int
	// MaxSubscribed bounds the memory that the subscriptions of all
	// connections of a listener take together, in bytes, estimated. A few of
	// each connection are free, so that one with many keeps nobody out.
	MaxSubscribed int64
	// MaxBuffered bounds what all connections of a listener together hold
	// of frames that have not come in whole yet: once for buffers of 64 KiB
	// at most, and once for larger bodies, as announced, with messages of
	// over 4 KiB that are held. When buffers need more, and when bodies wait
	// for room, connections that have been in the middle of a frame, or held
	// a message, for over a second are closed, the oldest first. At least
	// 4 × MaxFrame. A Memory that is shared has bounds of its own.
	MaxBuffered int64
	// WriteDeadline is how long a peer may take nothing at all of what is
	// written to it. One that takes a little is never closed.
	WriteDeadline time.Duration
}

// DefaultLimits gives the limits that hold where nothing else is said.
func DefaultLimits() Limits {
	return Limits{
		MaxConns:             4096,
		MaxPerAddr:           256,
		MaxHandshakes:        512,
		Handshake:            3 * time.Second,
		MaxFrame:             1 << 20,
		MaxMessage:           8 << 20,
		MaxParts:             1024,
		MaxSubscriptions:     4096,
		MaxSubscriptionBytes: 512 << 10,
		MaxSubscribed:        8 << 20,
		MaxBuffered:          32 << 20,
		WriteDeadline:        10 * time.Second,
	}
}

// withDefaults fills in zero fields; a Router takes requests, which are
// small.
func (l Limits) withDefaults(role Role) Limits {
	d := DefaultLimits()
	if role == Router {
		d.MaxFrame, d.MaxMessage, d.MaxParts = 64<<10, 128<<10, 64
	}
	orInt := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	orInt(&l.MaxConns, d.MaxConns)
	orInt(&l.MaxPerAddr, d.MaxPerAddr)
	orInt(&l.MaxHandshakes, d.MaxHandshakes)
	orInt(&l.MaxParts, d.MaxParts)
	orInt(&l.MaxSubscriptions, d.MaxSubscriptions)
	orInt(&l.MaxSubscriptionBytes, d.MaxSubscriptionBytes)
	if l.MaxSubscribed == 0 {
		l.MaxSubscribed = d.MaxSubscribed
	}
	if l.Handshake == 0 {
		l.Handshake = d.Handshake
	}
	if l.MaxFrame == 0 {
		l.MaxFrame = d.MaxFrame
	}
	l.MaxFrame = min(l.MaxFrame, math.MaxInt32/2)
	if l.MaxMessage == 0 {
		l.MaxMessage = max(d.MaxMessage, l.MaxFrame)
	}
	if l.MaxBuffered == 0 {
		l.MaxBuffered = d.MaxBuffered
	}
	l.MaxBuffered = max(l.MaxBuffered, 4*l.MaxFrame)
	if l.WriteDeadline == 0 {
		l.WriteDeadline = d.WriteDeadline
	}
	return l
}
