package ingest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"tbhist/thing"
)

const (
	// udpBurst is how many datagrams are read per wake-up, where the system
	// can.
	udpBurst = 32
	// maxDatagram is more than the largest datagram has, 65,507 bytes.
	maxDatagram = 64 << 10
	// maxSources bounds the table of senders that shares one thing.Source
	// per address.
	maxSources = 1024
	// udpEndpoint is the listener's name in logs and metrics.
	udpEndpoint = "udp"
)

// SetReadBuffer asks for a socket receive buffer of so many bytes, past the
// system's limit where the process may, and tells how many were granted.
// Where the system does not say, that is as many as asked for.
func SetReadBuffer(conn *net.UDPConn, bytes int) (granted int, err error) {
	granted, err = setReadBuffer(conn, bytes)
	if err != nil {
		return granted, fmt.Errorf("set the receive buffer of %v: %w", conn.LocalAddr(), err)
	}
	return granted, nil
}

// ServeUDP takes updates from datagrams until ctx ends, and then returns
// nil; any other end is an error. The connection stays the caller's to close.
func (in *Ingest) ServeUDP(ctx context.Context, conn *net.UDPConn) error {
	// Without the buffer it works too, and drops are counted.
	_, _ = SetReadBuffer(conn, in.o.UDPBuffer)
	r, err := newUDPReader(conn)
	if err != nil {
		return fmt.Errorf("udp input: %w", err)
	}
	// The read that waits ends at a deadline that is over.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	s := udpSources{in: in, shared: make(map[netip.Addr]*thing.Source)}
	b := newBurst(in.o.Limits)
	for {
		n, err := r.read()
		if drops := r.dropped(); drops > 0 {
			in.metrics.UDPKernelDrops.Add(float64(drops))
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("udp input: %w", err)
		}
		b.received = thing.MicrosOf(in.o.Now())
		s.wokenUp()
		for i := range n {
			payload, from := r.datagram(i)
			source, allowed := s.of(from)
			if !allowed {
				in.refuse(source, thing.ReasonNotAllowed, payload)
				continue
			}
			if in.rates != nil && !in.rates.allow(from) {
				in.refuse(source, thing.ReasonRate, payload)
				continue
			}
			in.decode(b, payload, source)
			if b.full() && !in.handOver(ctx, b, thing.UDP) {
				return nil
			}
		}
		if !in.handOver(ctx, b, thing.UDP) {
			return nil
		}
	}
}

// udpSources finds the source of a datagram and whether it may send. Only
// ServeUDP's goroutine uses it.
type udpSources struct {
	in     *Ingest
	shared map[netip.Addr]*thing.Source
	// last is the sender of the datagram before, allowed in this wake-up.
	last *thing.Source
}

// wokenUp makes the guard be asked anew: its answer may change with time.
func (s *udpSources) wokenUp() { s.last = nil }

func (s *udpSources) of(from netip.Addr) (source *thing.Source, allowed bool) {
	if s.last != nil && s.last.Addr == from {
		return s.last, true
	}
	if g := s.in.o.Guard; g != nil && !g.Admit(udpEndpoint, from) {
		return &thing.Source{Addr: from, Transport: thing.UDP}, false
	}
	source = s.shared[from]
	if source == nil {
		if len(s.shared) >= maxSources {
			clear(s.shared)
		}
		source = &thing.Source{Addr: from, Transport: thing.UDP}
		s.shared[from] = source
	}
	s.last = source
	return source, true
}
