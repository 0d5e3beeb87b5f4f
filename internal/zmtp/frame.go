package zmtp

import "encoding/binary"

// Bits of a frame's first byte; the others are reserved and must be 0.
const (
	flagMore    = 0x01
	flagLong    = 0x02 // an 8-byte size follows, not a 1-byte one
	flagCommand = 0x04
	flagsKnown  = flagMore | flagLong | flagCommand
)

// maxHeader is the size of a long frame's header.
const maxHeader = 9

// Kind tells what a Frame is.
type Kind uint8

// The kinds of frames that Conn.Read gives.
const (
	// Message is one frame of a message.
	Message Kind = iota
	// Subscribe and Cancel begin and end a subscription to the prefix in
	// Body; only on a Pub connection.
	Subscribe
	Cancel
	// Oversize is a frame of a message with more than Limits.MaxFrame bytes:
	// Size of them, of which Body has the first few and the rest is gone.
	// Only where Limits.MaxOversize allows it.
	Oversize
)

// Frame is what Conn.Read gives.
type Frame struct {
	Kind Kind
	// More tells that further parts of the same message follow.
	More bool
	// Body is valid until the next Read.
	Body []byte
	// Size is the size of the whole body, also where Body has only its
	// beginning.
	Size int64
}

// AppendFrameHeader appends the header of a message frame whose body has
// size bytes; more tells that another part of the message follows.
func AppendFrameHeader(dst []byte, size int, more bool) []byte {
	var flags byte
	if more {
		flags = flagMore
	}
	return appendHeader(dst, flags, size)
}

// AppendFrame appends body as one message frame.
func AppendFrame(dst, body []byte, more bool) []byte {
	return append(AppendFrameHeader(dst, len(body), more), body...)
}

func appendHeader(dst []byte, flags byte, size int) []byte {
	if size <= 255 {
		return append(dst, flags, byte(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, flags|flagLong), uint64(size))
}

// appendCommand appends a command frame: a name and its data.
func appendCommand(dst []byte, name string, data ...[]byte) []byte {
	size := 1 + len(name)
	for _, d := range data {
		size += len(d)
	}
	dst = appendHeader(dst, flagCommand, size)
	dst = append(dst, byte(len(name)))
	dst = append(dst, name...)
	for _, d := range data {
		dst = append(dst, d...)
	}
	return dst
}

// header is a frame's header as it came.
type header struct {
	flags byte
	len   int    // bytes of the header itself
	size  uint64 // bytes of the body, as announced: unchecked
}

// parseHeader reads a header from the beginning of b; ok is false while b
// is too short to hold it.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < 2 {
		return header{}, false
	}
	if b[0]&flagLong == 0 {
		return header{flags: b[0], len: 2, size: uint64(b[1])}, true
	}
	if len(b) < maxHeader {
		return header{}, false
	}
	return header{flags: b[0], len: maxHeader, size: binary.BigEndian.Uint64(b[1:])}, true
}
