package dnstest

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server answers from its records over both networks, and leaves nothing
// behind when it is closed.
func TestServer(t *testing.T) {
	s, err := Start("_thingsbus._tcp.example.org. 60 IN SRV 10 0 7954 broker.example.org.")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Addr())
	}}
	for _, fault := range []Fault{None, Truncated} { // the second is asked again over TCP
		s.Break(fault)
		_, records, err := r.LookupSRV(t.Context(), "thingsbus", "tcp", "example.org")
		if err != nil || len(records) != 1 || records[0].Target != "broker.example.org." || records[0].Port != 7954 {
			t.Errorf("fault %d: %v, %v", fault, records, err)
		}
	}
	if udp, tcp := s.Asked("udp", "SRV", "_thingsbus._tcp.example.org"), s.Asked("tcp", "SRV", "_thingsbus._tcp.example.org"); udp != 2 || tcp != 1 {
		t.Errorf("asked %d times over UDP, %d over TCP", udp, tcp)
	}
	s.Break(Failing)
	if _, _, err := r.LookupSRV(t.Context(), "thingsbus", "tcp", "example.org"); err == nil {
		t.Error("a server that fails is no error")
	}
}
