package zmtp

import (
	"bytes"
	"sync"
)

// Subscriptions are the prefixes that one peer has subscribed to. A prefix
// counts how often it was added, and is there until it was removed as often.
// It may be used by several goroutines at once. Make one with
// NewSubscriptions or Conn.Subscriptions.
type Subscriptions struct {
	max, maxBytes int
	exceeded      func(error) // told of the error before Add returns it
	// conn, if set, books what prefixes take in its listener's budget.
	conn *Conn

	mu    sync.RWMutex
	root  prefixNode
	count int // different prefixes
	bytes int // and their bytes
}

// NewSubscriptions makes an empty set with the caps of l.
func NewSubscriptions(l Limits) *Subscriptions {
	l = l.withDefaults("")
	return &Subscriptions{max: l.MaxSubscriptions, maxBytes: l.MaxSubscriptionBytes}
}

// Subscriptions gives the connection's own set. When an Add to it exceeds a
// cap, the connection is closed.
func (c *Conn) Subscriptions() *Subscriptions {
	c.subsOnce.Do(func() {
		c.subs = NewSubscriptions(c.limits)
		c.subs.exceeded = c.end
		c.subs.conn = c
	})
	return c.subs
}

// prefixNode is a node of a tree over bytes: edge leads to it from its
// parent, count says how often the prefix that ends here was added.
type prefixNode struct {
	edge  []byte
	count int
	first []byte // the first byte of each child's edge, in the order of kids
	kids  []*prefixNode
}

// Add adds a prefix once more; first tells that it was not there before.
// The error is a *PeerError when that would exceed a cap.
func (s *Subscriptions) Add(prefix []byte) (first bool, err error) {
	s.mu.Lock()
	n, rest := s.root.find(prefix)
	if len(rest) == 0 && n.count > 0 {
		n.count++
		s.mu.Unlock()
		return false, nil
	}
	switch {
	case s.count >= s.max:
		err = peerError(refusedSubscriptions, "more than %d subscriptions", s.max)
	case s.bytes+len(prefix) > s.maxBytes:
		err = peerError(refusedSubscriptions, "subscriptions of more than %d bytes", s.maxBytes)
	case !s.book(len(prefix)):
		err = peerError(refusedSubscriptions, "all subscribers together have too many subscriptions")
	default:
		s.count++
		s.bytes += len(prefix)
		n.insert(rest).count = 1
	}
	s.mu.Unlock()
	if err != nil && s.exceeded != nil {
		s.exceeded(err)
	}
	return err == nil, err
}

// freePrefixes of each connection are not booked.
const freePrefixes = 16

// prefixCost estimates what one prefix takes here and where it is routed by.
func prefixCost(bytes int) int64 { return int64(bytes) + 400 }

// book books one more prefix.
func (s *Subscriptions) book(bytes int) bool {
	return s.conn == nil || s.count < freePrefixes || s.conn.prefixes.take(s.conn, prefixCost(bytes), false)
}

// Remove takes a prefix back once; last tells that it is gone now. A prefix
// that is not there is ignored.
func (s *Subscriptions) Remove(prefix []byte) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone, last := s.root.remove(prefix)
	if last {
		if s.conn != nil && s.count > freePrefixes {
			s.conn.prefixes.give(s.conn, prefixCost(len(prefix)))
		}
		s.count--
		s.bytes -= len(prefix)
	}
	if gone { // the root itself stays
		s.root = prefixNode{}
	}
	return last
}

// Match tells whether msg begins with one of the prefixes.
func (s *Subscriptions) Match(msg []byte) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := &s.root
	for n.count == 0 {
		if len(msg) == 0 {
			return false
		}
		i := bytes.IndexByte(n.first, msg[0])
		if i < 0 {
			return false
		}
		n = n.kids[i]
		if !bytes.HasPrefix(msg, n.edge) {
			return false
		}
		msg = msg[len(n.edge):]
	}
	return true
}

// Len gives the number of different prefixes.
func (s *Subscriptions) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.count
}

// Each calls f with each different prefix, valid during the call, in no
// order that means anything. f must not change the set.
func (s *Subscriptions) Each(f func(prefix []byte)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.root.each(nil, f)
}

// find follows prefix down as far as whole edges lead.
func (n *prefixNode) find(prefix []byte) (*prefixNode, []byte) {
	for len(prefix) > 0 {
		i := bytes.IndexByte(n.first, prefix[0])
		if i < 0 || !bytes.HasPrefix(prefix, n.kids[i].edge) {
			break
		}
		n = n.kids[i]
		prefix = prefix[len(n.edge):]
	}
	return n, prefix
}

// insert makes the node for rest below n; no child's whole edge is a prefix
// of rest.
func (n *prefixNode) insert(rest []byte) *prefixNode {
	if len(rest) == 0 {
		return n
	}
	i := bytes.IndexByte(n.first, rest[0])
	if i < 0 {
		leaf := &prefixNode{edge: bytes.Clone(rest)}
		n.first = append(n.first, rest[0])
		n.kids = append(n.kids, leaf)
		return leaf
	}
	// Split the child's edge where it parts from rest.
	kid := n.kids[i]
	same := 1
	for same < len(rest) && rest[same] == kid.edge[same] {
		same++
	}
	fork := &prefixNode{
		edge:  bytes.Clone(kid.edge[:same]),
		first: []byte{kid.edge[same]},
		kids:  []*prefixNode{kid},
	}
	kid.edge = bytes.Clone(kid.edge[same:])
	n.kids[i] = fork
	return fork.insert(rest[same:])
}

// remove takes prefix back once below n. gone tells that n itself holds
// nothing any more, last that the prefix is gone.
func (n *prefixNode) remove(prefix []byte) (gone, last bool) {
	if len(prefix) == 0 {
		if n.count == 0 {
			return false, false
		}
		n.count--
		return n.count == 0 && len(n.kids) == 0, n.count == 0
	}
	i := bytes.IndexByte(n.first, prefix[0])
	if i < 0 || !bytes.HasPrefix(prefix, n.kids[i].edge) {
		return false, false
	}
	kid := n.kids[i]
	gone, last = kid.remove(prefix[len(kid.edge):])
	switch {
	case gone:
		end := len(n.kids) - 1
		n.kids[i], n.first[i] = n.kids[end], n.first[end]
		n.kids[end] = nil
		n.kids, n.first = n.kids[:end], n.first[:end]
	case last && kid.count == 0 && len(kid.kids) == 1:
		// A node that only leads on is joined with what it leads to.
		only := kid.kids[0]
		only.edge = append(bytes.Clone(kid.edge), only.edge...)
		n.kids[i] = only
	}
	return gone && n.count == 0 && len(n.kids) == 0, last
}

func (n *prefixNode) each(path []byte, f func([]byte)) {
	path = append(path, n.edge...)
	if n.count > 0 {
		f(path)
	}
	for _, k := range n.kids {
		k.each(path, f)
	}
}
