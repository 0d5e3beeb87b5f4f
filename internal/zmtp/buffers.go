package zmtp

import "sync"

// A connection owns smallBuffer bytes for as long as it lives. Larger
// buffers for reading and writing are lent to it only while there is
// something in them, so that idle connections cost next to nothing, and
// those stuck in the middle of a frame not much more than they sent.
const (
	smallBuffer  = 1 << 10
	middleBuffer = 8 << 10
	largeBuffer  = 64 << 10
)

var (
	middleBuffers = sync.Pool{New: func() any { return new([middleBuffer]byte) }}
	largeBuffers  = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// lend gives the smallest buffer to lend of at least n bytes; n is at most
// largeBuffer.
func lend(n int) []byte {
	if n <= middleBuffer {
		return middleBuffers.Get().(*[middleBuffer]byte)[:]
	}
	return largeBuffers.Get().(*[largeBuffer]byte)[:]
}

// takeBack takes what lend gave; nil is fine.
func takeBack(b []byte) {
	switch len(b) {
	case middleBuffer:
		middleBuffers.Put((*[middleBuffer]byte)(b))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b))
	}
}

// trusted is how large a body may be for which a peer that was dialled is
// given memory before it has come.
const trusted = 16 << 20

// bodies are used again by connections that were dialled: pages of history
// come one behind the other.
var bodies sync.Pool

// lendBody gives n bytes.
func lendBody(n int) []byte {
	if b, ok := bodies.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:n]
	}
	const step = 64 << 10 // the next one may be a little larger
	return make([]byte, n, (n+step-1)/step*step)
}

// takeBackBody takes what lendBody gave.
func takeBackBody(b []byte) {
	if cap(b) <= trusted {
		bodies.Put(&b)
	}
}
