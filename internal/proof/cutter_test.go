//go:build proof

package proof

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// cutter stands before the feed and the history service of a broker, on two
// ports that are as far apart, and cuts connections.
type cutter struct {
	t    *testing.T
	port int // the main port, as followers see it
	lns  []net.Listener
	done sync.WaitGroup

	mu   sync.Mutex // guards the rest
	open map[net.Conn]*passage
	cuts int // in the middle of what the broker sent
}

// passage is one connection: to the peer and to the broker.
type passage struct {
	peer, broker net.Conn
	cut          bool // with the next bytes from the broker
}

// startCutter starts a cutter and ends it with the test.
func startCutter(t *testing.T, b *broker) *cutter {
	t.Helper()
	c := &cutter{t: t, open: map[net.Conn]*passage{}}
	for c.port == 0 {
		port := freePorts(t)
		for _, offset := range []int{feedPort, historyPort} {
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+offset)))
			if err != nil {
				break
			}
			c.lns = append(c.lns, ln)
			c.done.Go(func() { c.accept(ln, b.addr(offset)) })
		}
		if len(c.lns)%2 == 0 {
			c.port = port
		}
	}
	t.Cleanup(func() {
		for _, ln := range c.lns {
			_ = ln.Close()
		}
		c.mu.Lock()
		for _, p := range c.open {
			p.close()
		}
		c.mu.Unlock()
		c.done.Wait()
	})
	return c
}

func (c *cutter) accept(ln net.Listener, target string) {
	for {
		peer, err := ln.Accept()
		if err != nil {
			return
		}
		broker, err := net.Dial("tcp", target)
		if err != nil {
			_ = peer.Close()
			continue
		}
		p := &passage{peer: peer, broker: broker}
		c.mu.Lock()
		c.open[peer] = p
		c.mu.Unlock()
		c.done.Go(func() { c.pass(p, broker, peer) })
		c.done.Go(func() { c.pass(p, peer, broker) })
	}
}

func (p *passage) close() {
	_ = p.peer.Close()
	_ = p.broker.Close()
}

// pass hands bytes on until one side closes, or until it is to be cut: then
// only some of the bytes from the broker get through.
func (c *cutter) pass(p *passage, from, to net.Conn) {
	defer func() {
		p.close()
		c.mu.Lock()
		delete(c.open, p.peer)
		c.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		cut := p.cut && from == p.broker && n > 1
		if cut {
			n = 1 + rand.IntN(n-1)
			c.cuts++
		}
		c.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil || cut {
			return
		}
	}
}

// cut cuts all connections that there are, each as the broker next sends.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.open {
		p.cut = true
	}
}

func (c *cutter) url() string { return "tcp://127.0.0.1:" + strconv.Itoa(c.port) }
