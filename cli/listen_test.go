package cli

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"tbhist/client"
)

// Port 0 finds a main port whose followers are free, for IPv4 and IPv6.
func TestOpenSockets(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "", "localhost"} {
		s, err := openSockets(host, 0)
		if err != nil {
			t.Fatal(err)
		}
		port := s.port()
		for endpoint, offset := range map[string]int{
			endpointFeed: client.FeedOffset, endpointInput: client.InputOffset, endpointUDP: client.InputOffset,
			endpointHistory: client.HistoryOffset, endpointHTTP: client.HTTPOffset,
		} {
			_, got, err := net.SplitHostPort(s.addrs()[endpoint].String())
			if err != nil || got != itoa(port+offset) {
				t.Errorf("%s listens on %s, %v; want port %d", endpoint, got, err, port+offset)
			}
		}
		for _, network := range []string{"tcp4", "tcp6"} {
			if host != "" || network == "tcp6" && !hasIPv6() {
				continue
			}
			conn, err := net.Dial(network, net.JoinHostPort(map[string]string{"tcp4": "127.0.0.1", "tcp6": "::1"}[network], itoa(port)))
			if err != nil {
				t.Errorf("%s: %v", network, err)
				continue
			}
			_ = conn.Close()
		}
		again, err := openSockets(host, port)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "--listen") {
			t.Errorf("the ports can be opened twice: %v, %v", again, err)
		}
		s.close()
		if s, err = openSockets(host, port); err != nil {
			t.Errorf("a failure or close leaves a port open: %v", err)
		} else {
			s.close()
		}
	}
}

// Where connections have nearly all the ports that the system gives, one is
// found below those.
func TestSeekPort(t *testing.T) {
	below := map[int]bool{}
	for try := range seekTries {
		switch port := seekPort(try); {
		case port == 0:
		case port < seekFrom || port >= seekTo:
			t.Errorf("port %d is tried", port)
		default:
			below[port] = true
		}
	}
	if len(below) < seekTries/4 || seekPort(0) != 0 {
		t.Errorf("%d ports are tried of %d that are not the system's", len(below), seekTries)
	}
}

func hasIPv6() bool {
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = ln.Close()
	return true
}

// A follower's port that is taken names itself.
func TestOpenSocketsFollowerTaken(t *testing.T) {
	s, err := openSockets("127.0.0.1", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	_ = s.feed.Close()
	if _, err := openSockets("127.0.0.1", s.port()); err == nil || !strings.Contains(err.Error(), "(input) is in use") {
		t.Errorf("got %v", err)
	}
}
