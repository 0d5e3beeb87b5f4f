//go:build proof

package proof

import (
	"fmt"
	"testing"
	"time"
)

// Sockets of libzmq come back by themselves when the broker is killed or
// stopped and started again, and the broker takes a peer that was killed and
// started again like any other.
func TestReconnects(t *testing.T) {
	b, z := startBroker(t), startLibzmq(t)
	p := openPairs(z, b)
	p.work("at first")
	var slowest time.Duration
	for i, end := range []struct {
		how string
		f   func()
	}{{"SIGKILL", b.kill}, {"SIGTERM", b.stop}, {"SIGKILL", b.kill}} {
		end.f()
		b.start()
		began := time.Now()
		for _, s := range []socket{p.in, p.out, p.req.socket, p.dealer.socket} {
			s.awaitEvent("connected", i+2)
		}
		p.work(fmt.Sprintf("after %s no. %d", end.how, i+1))
		slowest = max(slowest, time.Since(began))
	}
	for range 3 {
		z.kill()
		eventually(t, "the broker is rid of the killed subscriber", func() bool { return b.metric("tbhist_subscribers") == 0 })
		z = startLibzmq(t)
		n := p.n
		p = openPairs(z, b)
		p.n = n
		p.work("after the peer was killed")
	}
	lines, _ := p.dealer.all(args{"type": "replay"})
	wantWhole(t, lines)
	measured(t, "reconnects: 3 restarts of the broker, 3 of the peer; all four sockets work again %d ms after the broker's start at the latest", slowest.Milliseconds())
}

// pairs is one of each socket that a broker has a counterpart for.
type pairs struct {
	libzmq
	b           *broker
	in, out     socket
	req, dealer asker
	n           int // how often work was called
}

func openPairs(z libzmq, b *broker) *pairs {
	z.t.Helper()
	soon := options{"RECONNECT_IVL": 50}
	return &pairs{
		libzmq: z, b: b,
		in:  z.open("PUB", "in", b.url(inputPort), soon),
		out: z.open("SUB", "out", b.url(feedPort), soon, `{"type": "thing_update"`),
		req: z.asker("REQ", "req", b, soon), dealer: z.asker("DEALER", "dealer", b, soon),
	}
}

// work uses every socket: an update goes in and comes out, and history has
// it.
func (p *pairs) work(when string) {
	p.t.Helper()
	p.n++
	ns := fmt.Sprintf("again.n%d", p.n)
	eventually(p.t, "an update passes "+when, func() bool {
		p.in.send(fmt.Appendf(nil, `[%q, null, %d, null]`, ns, p.n))
		for _, line := range p.out.collect(1000, 0.02) {
			if parse(p.t, line).NS == ns {
				return true
			}
		}
		return false
	})
	for _, a := range []asker{p.req, p.dealer} {
		if lines, _ := a.all(args{"type": "directory", "ns": ns}); len(lines) != 1 {
			p.t.Errorf("%s: %s finds %d Things %s, not 1", when, a.name, len(lines), ns)
		}
	}
}
