package zmtp

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
)

const (
	greetingSize = 64
	// maxReady bounds the body of the peer's READY command.
	maxReady = 8 << 10
)

// peerInfo is what the handshake told of the peer.
type peerInfo struct {
	minor      int // of the peer's ZMTP version 3.minor
	socketType string
	identity   string
}

// guard stands between the network and zmq4.Open. It takes in the greeting
// and then the READY command whole and checks them; only then the library
// gets the greeting, and a READY written anew from what was understood. No
// other command passes. What the library writes goes out in one piece when
// it begins to read.
type guard struct {
	net.Conn
	c       *Conn
	out     []byte
	pending []byte // checked, for the library to read
	stage   int    // 0: the greeting comes next, 1: READY, 2: nothing
	peer    peerInfo
	// err is what the guard did not let through: the library's own error
	// need not wrap it.
	err error
}

// Write keeps p until the library reads.
func (g *guard) Write(p []byte) (int, error) {
	g.out = append(g.out, p...)
	return len(p), nil
}

// Read gives checked bytes only.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.pending) == 0 {
		if err := g.advance(); err != nil {
			if g.err == nil {
				g.err = err
			}
			return 0, err
		}
	}
	n := copy(p, g.pending)
	g.pending = g.pending[n:]
	return n, nil
}

// advance sends what was written and takes in the next piece.
func (g *guard) advance() error {
	if len(g.out) > 0 {
		if _, err := g.Conn.Write(g.out); err != nil {
			return err
		}
		g.out = g.out[:0]
	}
	g.stage++
	switch g.stage {
	case 1:
		return g.greeting()
	case 2:
		return g.ready()
	}
	return peerError(refusedProtocol, "a handshake of more than greeting and READY")
}

// peek waits for the first n bytes that have come.
func (g *guard) peek(n int) ([]byte, error) {
	if err := g.c.need(n); err != nil {
		return nil, err
	}
	return g.c.in.bytes()[:n], nil
}

// greeting takes in the peer's greeting. A peer that speaks ZMTP 1.0 or 2.0
// sends less than a greeting of 3.0 and waits: it is told by its first 2 or
// 11 bytes.
func (g *guard) greeting() error {
	b, err := g.peek(1)
	if err != nil {
		return err
	}
	if b[0] != 0xff {
		if b, err = g.peek(2); err != nil {
			return err
		}
		if b[0] != 0 && b[1] == 0 { // the size and flags of an identity
			return oldVersion("1.0")
		}
		return peerError(refusedProtocol, "not a ZMTP greeting: it begins with %q", b)
	}
	if b, err = g.peek(10); err != nil {
		return err
	}
	if b[9]&1 == 0 { // a long frame of ZMTP 1.0
		return oldVersion("1.0")
	}
	if b[9] != 0x7f {
		return peerError(refusedProtocol, "not a ZMTP greeting: its signature ends with %#02x", b[9])
	}
	if b, err = g.peek(11); err != nil {
		return err
	}
	switch b[10] {
	case 0:
		return oldVersion("1.0")
	case 1, 2:
		return oldVersion("2.0")
	}
	if b, err = g.peek(greetingSize); err != nil {
		return err
	}
	if mechanism := strings.TrimRight(string(b[12:32]), "\x00"); mechanism != "NULL" {
		return peerError(refusedMechanism, "security mechanism %q, NULL is taken", mechanism)
	}
	if b[32] != 0 { // meaningless without a mechanism that has a server
		return peerError(refusedProtocol, "a greeting as server of mechanism NULL")
	}
	g.peer.minor = int(b[11])
	if b[10] > 3 { // a later version that speaks 3.x with us
		g.peer.minor = 1
	}
	g.pending = bytes.Clone(b)
	g.c.in.r += greetingSize
	return nil
}

func oldVersion(v string) error {
	return peerError(refusedOldVersion, "the peer speaks ZMTP %s, 3.0 or newer is taken (libzmq 4.0 or newer)", v)
}

// ready takes in the peer's READY command.
func (g *guard) ready() error {
	b, err := g.peek(2)
	if err != nil {
		return err
	}
	if b[0]&^flagLong != flagCommand {
		return peerError(refusedProtocol, "a frame with flags %#02x where READY is due", b[0])
	}
	if b[0]&flagLong != 0 {
		if b, err = g.peek(maxHeader); err != nil {
			return err
		}
	}
	h, _ := parseHeader(b)
	if h.size > maxReady {
		return peerError(refusedTooLarge, "a READY of %d bytes, %d are taken", h.size, maxReady)
	}
	total := h.len + int(h.size)
	if b, err = g.peek(total); err != nil {
		return err
	}
	name, data, ok := splitCommand(b[h.len:])
	switch {
	case ok && string(name) == "ERROR":
		return peerError(refusedProtocol, "the peer refused: %q", data)
	case !ok || string(name) != "READY":
		return peerError(refusedProtocol, "a command %q where READY is due", name)
	}
	if err := g.metadata(data); err != nil {
		return err
	}
	if !g.c.role.accepts(g.peer.socketType) {
		return peerError(refusedSocketType, "a peer of type %q, %s takes %s", g.peer.socketType,
			g.c.role, strings.Join(g.c.role.peers(), ", "))
	}
	// The library knows names in the usual spelling only.
	g.pending = appendCommand(nil, "READY", property("Socket-Type", g.peer.socketType), property("Identity", g.peer.identity))
	g.c.in.r += total
	return nil
}

// property is one property of a READY command.
func property(name, value string) []byte {
	b := append([]byte{byte(len(name))}, name...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// metadata checks the properties of a READY command, each of which must lie
// within it and occur once.
func (g *guard) metadata(b []byte) error {
	seen := make(map[string]bool)
	for len(b) > 0 {
		n := int(b[0])
		if len(b) < 1+n+4 || n == 0 {
			return peerError(refusedProtocol, "a READY with a cut property name")
		}
		name := strings.ToLower(string(b[1 : 1+n]))
		size := binary.BigEndian.Uint32(b[1+n:])
		b = b[1+n+4:]
		if uint64(size) > uint64(len(b)) {
			return peerError(refusedProtocol, "a READY with a property of %d bytes in %d", size, len(b))
		}
		value := string(b[:size])
		b = b[size:]
		if !propertyName(name) || seen[name] || len(seen) >= 64 {
			return peerError(refusedProtocol, "a READY with property %q", name)
		}
		seen[name] = true
		switch name {
		case "socket-type":
			g.peer.socketType = value
		case "identity":
			g.peer.identity = value
		}
	}
	if len(g.peer.identity) > 255 {
		return peerError(refusedProtocol, "an identity of %d bytes", len(g.peer.identity))
	}
	return nil
}

func propertyName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.IndexByte("-_.+", c) >= 0:
		default:
			return false
		}
	}
	return true
}
