package zmtp

import (
	"container/list"
	"net/netip"
	"sync"
)

// table knows the connections of a listener, for its caps and for closing
// them.
type table struct {
	limits Limits

	mu         sync.Mutex
	closed     bool
	conns      map[*Conn]*list.Element // of handshakes; nil once it is done
	perAddr    map[netip.Addr]int
	handshakes list.List // of *Conn, the oldest first
}

func newTable(l Limits) *table {
	return &table{limits: l, conns: make(map[*Conn]*list.Element), perAddr: make(map[netip.Addr]int)}
}

// add takes a new connection in, which begins its handshake. Too many
// handshakes end the oldest of them. The error says why there is no place.
func (t *table) add(c *Conn) error {
	addr := c.remote.Addr().WithZone("")
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return errShutdown
	case len(t.conns) >= t.limits.MaxConns:
		return peerError(refusedLimit, "%d connections are taken in all", t.limits.MaxConns)
	case t.perAddr[addr] >= t.limits.MaxPerAddr && !addr.IsLoopback():
		return peerError(refusedAddressLimit, "%d connections are taken from one address", t.limits.MaxPerAddr)
	}
	if t.handshakes.Len() >= t.limits.MaxHandshakes {
		oldest := t.handshakes.Front()
		t.handshakes.Remove(oldest)
		old := oldest.Value.(*Conn)
		t.conns[old] = nil
		old.end(peerError(refusedHandshakeLimit, "the oldest of %d handshakes in progress", t.limits.MaxHandshakes))
	}
	t.conns[c] = t.handshakes.PushBack(c)
	t.perAddr[addr]++
	return nil
}

// established tells that the handshake of c is done.
func (t *table) established(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.conns[c]; e != nil {
		t.handshakes.Remove(e)
		t.conns[c] = nil
	}
}

// remove forgets c.
func (t *table) remove(c *Conn) {
	addr := c.remote.Addr().WithZone("")
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.conns[c]; e != nil {
		t.handshakes.Remove(e)
	}
	delete(t.conns, c)
	if t.perAddr[addr]--; t.perAddr[addr] == 0 {
		delete(t.perAddr, addr)
	}
}

// closeAll closes every connection and lets no other in.
func (t *table) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for c := range t.conns {
		c.end(errShutdown)
	}
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}
