package ingest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tbhist/internal/zmtp"
	"tbhist/thing"
)

func addrNo(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// Datagrams: what one second gives at once, then one each time that one is
// due. What was refused does not count.
func TestRateAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []int{1, 3, 100, 10_000} {
			r := newRates(rate)
			burst := func() (n int) {
				for r.allow(addrNo(1)) {
					n++
				}
				return n
			}
			if n := burst(); n != rate {
				t.Errorf("at %d/s %d come in at once", rate, n)
			}
			if !r.allow(addrNo(2)) {
				t.Errorf("at %d/s another address is held back", rate)
			}
			<-time.After(r.interval)
			if n := burst(); n != 1 {
				t.Errorf("at %d/s %d come in when one is due", rate, n)
			}
			<-time.After(time.Hour)
			if n := burst(); n != rate {
				t.Errorf("at %d/s %d come in after an hour", rate, n)
			}
		}
	})
}

// Connections: as many at once, and then so long to wait that the rate is
// held on the whole, by several of one address together.
func TestRateTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, rate := range []int{1, 3, 100} {
			r := newRates(rate)
			begun := time.Now()
			for i := 1; i <= 5*rate; i++ {
				wait := r.took(addrNo(1))
				if i < rate && wait != 0 || i >= rate && wait == 0 {
					t.Fatalf("at %d/s one waits for %v behind no. %d", rate, wait, i)
				}
				<-time.After(wait)
			}
			// The last is due 4 s after the first burst, and behind it one waits
			// for the next.
			if took, want := time.Since(begun), 4*time.Second+r.interval; (took - want).Abs() > time.Duration(5*rate) {
				t.Errorf("at %d/s %d took %v, not %v", rate, 5*rate, took, want)
			}
			if !r.allow(addrNo(1)) || r.allow(addrNo(1)) {
				t.Errorf("at %d/s datagrams have a rate of their own", rate)
			}
		}
	})
}

// However many addresses come, so many are told apart at most, and those that
// have been quiet are forgotten.
func TestRateAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRates(2)
		for i := range 3 * maxRateAddrs {
			r.allow(addrNo(i))
		}
		if n := len(r.until); n != maxRateAddrs {
			t.Fatalf("%d addresses are told apart", n)
		}
		if r.allow(addrNo(1_000_000)) {
			t.Error("those for which there is no room have no bound")
		}
		if !r.allow(addrNo(1)) {
			t.Error("one that is told apart suffers from those that are not")
		}
		<-time.After(2 * time.Second)
		r.allow(addrNo(1_000_000)) // it finds the table full, and has it swept
		if !r.allow(addrNo(1_000_001)) || len(r.until) > 2 {
			t.Errorf("%d addresses are told apart after a quiet time", len(r.until))
		}
	})
}

// Over ZeroMQ nothing is lost, however fast it is sent, and an address that
// is held back holds nobody else back. By UDP the rest is refused.
func TestInputRate(t *testing.T) {
	const rate, sent = 100, 150
	b := newBench(t, Options{Rate: rate})
	c := b.publisher(b.zmq(zmtp.Limits{}))
	out := b.udp()
	var all []byte
	for i := range sent {
		all = zmtp.AppendFrame(all, []byte(update("z", fmt.Sprint(i))), false)
	}
	send(t, c, all)
	b.take(sent, func(i int, u *thing.Update) {
		if string(u.Data) != fmt.Sprint(i) {
			t.Fatalf("update %d is %s", i, u.Data)
		}
	})
	if n := b.count("tbhist_input_held_back_total"); n == 0 {
		t.Error("the connection was never held back")
	}
	if n := b.refusedBy(thing.ZMQ, thing.ReasonRate); n != 0 {
		t.Errorf("%v were refused over ZeroMQ", n)
	}
	// The same address by UDP: its rate is used up.
	for range sent {
		if _, err := out.Write([]byte("\x94\xa1u\xc0\xc0\xc0")); err != nil {
			t.Fatal(err)
		}
	}
	b.wait("all datagrams are counted", func() bool {
		return b.refusedBy(thing.UDP, thing.ReasonRate)+b.count("tbhist_updates_accepted_total", "transport=udp") == sent
	})
	if n := b.refusedBy(thing.UDP, thing.ReasonRate); n < 1 {
		t.Error("no datagram was refused")
	}
	if lines := strings.Join(b.log.lines(), "\n"); !strings.Contains(lines, "reason=rate") {
		t.Errorf("it is not logged: %s", lines)
	}

	// Much waits on the connection; another address is let in at once.
	send(t, c, bytes.Repeat(all, 20))
	other, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, out.RemoteAddr().(*net.UDPAddr))
	if err != nil {
		t.Logf("there is no second address here: %v", err)
		return
	}
	defer func() { _ = other.Close() }()
	before := b.count("tbhist_updates_accepted_total", "transport=udp")
	if _, err := other.Write([]byte("\x94\xa1u\xc0\xc0\xc0")); err != nil {
		t.Fatal(err)
	}
	b.wait("the other address is let in", func() bool {
		return b.count("tbhist_updates_accepted_total", "transport=udp") == before+1
	})
	if n := b.count("tbhist_updates_accepted_total", "transport=zmq"); n == 21*sent {
		t.Error("nothing was held back meanwhile")
	}
}

// To connect anew is no way around: a new connection of an address that is over
// its rate is not read before the rest may.
func TestInputRateConnectingAnew(t *testing.T) {
	b := newBench(t, Options{Rate: 1})
	port := b.zmq(zmtp.Limits{})
	for range 3600 {
		b.rates.took(netip.MustParseAddr("127.0.0.1"))
	}
	send(t, b.publisher(port), zmtp.AppendFrame(nil, []byte(update("z", "1")), false))
	b.wait("the connection is held back", func() bool { return b.count("tbhist_input_held_back_total") == 1 })
	if n := b.count("tbhist_updates_accepted_total", "transport=zmq"); n != 0 {
		t.Errorf("%v were taken of a new connection of an address that owes an hour", n)
	}
}
