// Package dnstest is a DNS server for tests: a real one, over UDP and TCP on
// a port of the loopback, with the records and the faults that a test wants.
package dnstest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Fault is what is wrong with a server.
type Fault int

// The faults of a server.
const (
	None      Fault = iota
	Silent          // it answers nothing
	Failing         // it answers SERVFAIL
	Truncated       // over UDP it answers that the answer is too long
)

// Server answers from its records until it is closed.
type Server struct {
	addr    string
	servers []*dns.Server
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	records []dns.RR
	fault   Fault
	asked   map[string]int
}

// Start starts a server with records as a zone file has them.
func Start(records ...string) (*Server, error) {
	s := &Server{asked: map[string]int{}}
	if err := s.Set(records...); err != nil {
		return nil, err
	}
	stream, packets, err := listen()
	if err != nil {
		return nil, err
	}
	s.addr = stream.Addr().String()
	handler := dns.HandlerFunc(s.serve)
	s.servers = []*dns.Server{{Listener: stream, Handler: handler}, {PacketConn: packets, Handler: handler}}
	for _, one := range s.servers {
		started := make(chan struct{})
		one.NotifyStartedFunc = func() { close(started) }
		s.running.Go(func() {
			_ = one.ActivateAndServe() // it ends by Close only
		})
		<-started
	}
	return s, nil
}

// listen finds a port that is free over TCP and UDP.
func listen() (net.Listener, net.PacketConn, error) {
	var errs []error
	for range 100 {
		stream, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		packets, err := net.ListenPacket("udp", stream.Addr().String())
		if err == nil {
			return stream, packets, nil
		}
		errs = append(errs, err, stream.Close())
	}
	return nil, nil, fmt.Errorf("no port is free: %w", errors.Join(errs...))
}

// Close ends the server and waits for its end.
func (s *Server) Close() {
	for _, one := range s.servers {
		_ = one.Shutdown()
	}
	s.running.Wait()
}

// Addr gives the server's HOST:PORT.
func (s *Server) Addr() string { return s.addr }

// Set replaces the records.
func (s *Server) Set(records ...string) error {
	var all []dns.RR
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			return err
		}
		all = append(all, rr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = all
	return nil
}

// Break sets what is wrong with the server.
func (s *Server) Break(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Asked tells how many questions for records of a type, such as "SRV", and
// a name came over "udp" or "tcp".
func (s *Server) Asked(network, kind, name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[question(network, kind, name)]
}

func question(network, kind, name string) string {
	return network + " " + kind + " " + strings.ToLower(dns.Fqdn(name))
}

func (s *Server) serve(w dns.ResponseWriter, request *dns.Msg) {
	q := request.Question[0]
	network := w.LocalAddr().Network()
	s.mu.Lock()
	s.asked[question(network, dns.TypeToString[q.Qtype], q.Name)]++
	fault, records := s.fault, s.records
	s.mu.Unlock()

	answer := new(dns.Msg).SetReply(request)
	answer.Authoritative, answer.RecursionAvailable = true, true
	switch {
	case fault == Silent:
		return
	case fault == Failing:
		answer.Rcode = dns.RcodeServerFailure
	case fault == Truncated && network == "udp":
		answer.Truncated = true
	default:
		known := false
		for _, r := range records {
			// A name is known too if there is one below it.
			known = known || dns.IsSubDomain(q.Name, r.Header().Name)
			if r.Header().Rrtype == q.Qtype && strings.EqualFold(r.Header().Name, q.Name) {
				answer.Answer = append(answer.Answer, r)
			}
		}
		if !known {
			answer.Rcode = dns.RcodeNameError
		}
	}
	_ = w.WriteMsg(answer) // who does not wait for the answer is not told
}
