//go:build proof

package proof

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between peers and a broker and keeps what goes over each
// connection.
type proxy struct {
	ln     net.Listener
	target string
	done   sync.WaitGroup

	mu    sync.Mutex // guards the rest
	conns []*recorded
	open  []net.Conn
}

// recorded is what went over one connection.
type recorded struct {
	mu                   sync.Mutex // guards the rest
	fromBroker, fromPeer []byte
}

// startProxy starts a proxy and ends it with the test.
func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: target}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		p.mu.Lock()
		for _, c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.done.Wait()
	})
	return p
}

func (p *proxy) url() string { return "tcp://" + p.ln.Addr().String() }

func (p *proxy) accept() {
	for {
		peer, err := p.ln.Accept()
		if err != nil {
			return
		}
		broker, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = peer.Close()
			continue
		}
		r := &recorded{}
		p.mu.Lock()
		p.conns = append(p.conns, r)
		p.open = append(p.open, peer, broker)
		p.mu.Unlock()
		p.done.Go(func() { r.pass(peer, broker, &r.fromBroker) })
		p.done.Go(func() { r.pass(broker, peer, &r.fromPeer) })
	}
}

// pass hands bytes on until one side closes.
func (r *recorded) pass(to io.WriteCloser, from io.ReadCloser, record *[]byte) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		*record = append(*record, buf[:n]...)
		r.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// only gives what went over the one connection that there was.
func (p *proxy) only(t *testing.T) (fromBroker, fromPeer stream) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) != 1 {
		t.Fatalf("%d connections, not 1", len(p.conns))
	}
	c := p.conns[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	return readStream(c.fromBroker), readStream(c.fromPeer)
}

// stream is one direction of a ZMTP connection, taken apart.
type stream struct {
	bytes    int
	commands map[string]int // by name
	messages []string       // bodies of frames
	framing  int            // bytes that are not bodies of messages
	rest     int            // bytes of a frame that has not come in whole
}

const greetingBytes = 64

func readStream(b []byte) stream {
	s := stream{bytes: len(b), commands: map[string]int{}}
	if len(b) < greetingBytes {
		s.rest = len(b)
		return s
	}
	s.framing = greetingBytes
	for b = b[greetingBytes:]; len(b) > 0; {
		const long, command = 2, 4
		header, size := 2, 0
		if b[0]&long != 0 {
			header = 9
		}
		if len(b) >= header {
			if header == 9 {
				size = int(binary.BigEndian.Uint64(b[1:]))
			} else {
				size = int(b[1])
			}
		}
		if len(b) < header+size {
			s.rest = len(b)
			return s
		}
		body := b[header : header+size]
		if b[0]&command != 0 {
			s.commands[string(body[1:1+body[0]])]++
			s.framing += header + size
		} else {
			s.messages = append(s.messages, string(body))
			s.framing += header
		}
		b = b[header+size:]
	}
	return s
}
