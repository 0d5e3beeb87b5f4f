package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"tbhist/client"
)

// The listeners, as logs and metrics name them.
const (
	endpointFeed    = "feed"
	endpointInput   = "input"
	endpointUDP     = "udp"
	endpointHistory = "history"
	endpointHTTP    = "http"
)

var endpoints = []string{endpointFeed, endpointInput, endpointUDP, endpointHistory, endpointHTTP}

// sockets are all that a broker listens on.
type sockets struct {
	feed, input, history, http net.Listener
	udp                        *net.UDPConn
}

const (
	// seekTries is how often a main port is sought whose followers are free.
	seekTries = 100
	// Systems give ports from 32768 or 49152 on to whoever connects.
	seekFrom, seekTo = 20_000, 32_000
)

// openSockets opens the ports that follow from the main one; port 0 seeks a
// main port for which all are free: by turns one that the system gives, and one
// below those, of which many connections on this machine may leave no four in a
// row.
func openSockets(host string, port int) (*sockets, error) {
	if port != 0 {
		return openSocketsAt(host, port)
	}
	var err error
	for try := range seekTries {
		var s *sockets
		if s, err = openSocketsAt(host, seekPort(try)); err == nil {
			return s, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, errTooHigh) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no main port was found for which all ports are free: %w", err)
}

// seekPort gives the main port of a try; 0 is one that the system chooses.
func seekPort(try int) int {
	if try%2 == 0 {
		return 0
	}
	return seekFrom + rand.IntN(seekTo-seekFrom)
}

var errTooHigh = errors.New("the main port leaves no room for the others")

func openSocketsAt(host string, port int) (s *sockets, err error) {
	s = &sockets{}
	defer func() {
		if err != nil {
			s.close()
			s = nil
		}
	}()
	if s.feed, err = listenTCP(endpointFeed, host, port); err != nil {
		return s, err
	}
	if port = s.port(); port > 65535-client.HTTPOffset {
		return s, errTooHigh
	}
	if s.input, err = listenTCP(endpointInput, host, port+client.InputOffset); err != nil {
		return s, err
	}
	if s.udp, err = listenUDP(endpointUDP, host, port+client.InputOffset); err != nil {
		return s, err
	}
	if s.history, err = listenTCP(endpointHistory, host, port+client.HistoryOffset); err != nil {
		return s, err
	}
	s.http, err = listenTCP(endpointHTTP, host, port+client.HTTPOffset)
	return s, err
}

// port gives the main port.
func (s *sockets) port() int {
	if a, ok := s.feed.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// addrs gives what is listened on, by endpoint.
func (s *sockets) addrs() map[string]net.Addr {
	return map[string]net.Addr{
		endpointFeed: s.feed.Addr(), endpointInput: s.input.Addr(), endpointUDP: s.udp.LocalAddr(),
		endpointHistory: s.history.Addr(), endpointHTTP: s.http.Addr(),
	}
}

// close closes what is open; it may be called again.
func (s *sockets) close() {
	for _, ln := range []net.Listener{s.feed, s.input, s.history, s.http} {
		if ln != nil {
			_ = ln.Close()
		}
	}
	if s.udp != nil {
		_ = s.udp.Close()
	}
}

// Without a host both functions listen for IPv4 and IPv6 on one socket; an
// IPv4 address, 0.0.0.0 too, means IPv4 alone.

func listenTCP(endpoint, host string, port int) (net.Listener, error) {
	ln, err := net.Listen("tcp"+family(host), net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, listenError(endpoint, host, port, err)
	}
	return ln, nil
}

func listenUDP(endpoint, host string, port int) (*net.UDPConn, error) {
	conn, err := net.ListenPacket("udp"+family(host), net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, listenError(endpoint, host, port, err)
	}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		_ = conn.Close()
		return nil, listenError(endpoint, host, port, errors.New("not a UDP socket"))
	}
	return udp, nil
}

func family(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		return "4"
	}
	return ""
}

// startError tells why a broker cannot start, in one sentence that names
// what to change.
type startError struct {
	msg string
	err error
}

func (e *startError) Error() string { return e.msg }
func (e *startError) Unwrap() error { return e.err }

func listenError(endpoint, host string, port int, err error) error {
	why := func(format string, args ...any) error {
		return &startError{msg: fmt.Sprintf(format, args...), err: err}
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return why("port %d (%s) is in use, by another broker perhaps: choose another main port with --listen", port, endpoint)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return why("this machine has no address %s: choose another with --listen", host)
	case errors.Is(err, fs.ErrPermission):
		return why("port %d (%s) may not be opened by this user: choose a main port above 1023 with --listen", port, endpoint)
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return why("the host %q is not known: choose another with --listen", host)
	}
	return why("cannot listen on port %d (%s): %v; choose another main port with --listen", port, endpoint, err)
}
