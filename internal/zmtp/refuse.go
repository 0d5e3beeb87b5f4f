package zmtp

import (
	"errors"
	"fmt"
)

// Why a connection was refused or closed for what the peer did. The codes
// label metrics.
const (
	refusedLimit          = "limit"           // Limits.MaxConns reached
	refusedAddressLimit   = "address_limit"   // Limits.MaxPerAddr reached
	refusedHandshakeLimit = "handshake_limit" // the oldest of too many handshakes
	refusedHandshake      = "handshake"       // not done in time, or ended by the peer
	refusedOldVersion     = "old_version"     // ZMTP 1.0 or 2.0
	refusedMechanism      = "mechanism"       // a security mechanism other than NULL
	refusedSocketType     = "socket_type"     // READY without a fitting Socket-Type
	refusedProtocol       = "protocol"        // bytes that are not ZMTP
	refusedTooLarge       = "too_large"       // a frame or message over the limits
	refusedSubscriptions  = "subscriptions"   // too many prefixes, or too many bytes of them
	refusedMemory         = "memory"          // closed for Limits.MaxBuffered
)

// RefuseReasons lists all codes that ListenerOptions.Refused is called with.
var RefuseReasons = []string{
	refusedLimit, refusedAddressLimit, refusedHandshakeLimit,
	refusedHandshake, refusedOldVersion, refusedMechanism,
	refusedSocketType, refusedProtocol, refusedTooLarge,
	refusedSubscriptions, refusedMemory,
}

// PeerError tells that a connection was ended for what its peer did.
type PeerError struct {
	Reason string // one of RefuseReasons
	Err    error
}

// Error says what the peer did.
func (e *PeerError) Error() string { return "zmtp: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *PeerError) Unwrap() error { return e.Err }

func peerError(reason, format string, args ...any) error {
	return &PeerError{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// ErrWriteDeadline is why a connection ended whose peer took nothing at all
// for Limits.WriteDeadline.
var ErrWriteDeadline = errors.New("zmtp: the peer took nothing for the write deadline")

// ErrPeerSilent is why a connection ended whose peer did not answer a PING.
var ErrPeerSilent = errors.New("zmtp: the peer did not answer a heartbeat")
