package publish

import (
	"bytes"
	"slices"

	"tbhist/internal/wire"
	"tbhist/internal/zmtp"
	"tbhist/thing"
)

// chunkBytes is where a batch is cut into chunks: what a subscriber that
// takes nothing holds on to at most, unless one message is larger.
const chunkBytes = 64 << 10

// chunk is a stretch of a batch, encoded: updates that are either all kept,
// with one seq after the other, or all unkept. It never changes.
type chunk struct {
	ord   uint64 // its place in the window, from 1
	batch uint64 // position of its batch
	// base is the newest seq before it, last that with it: the same when it
	// is unkept.
	base, last uint64
	framed     []byte // its messages, each with its frame header
	msgs       []message
}

// message is where one stands in chunk.framed: its header ends at body, and
// the next message begins at end.
type message struct {
	body, end uint32
	received  thing.Micros
}

func (c *chunk) kept() bool { return c.last > c.base }

// body gives a message without its frame header.
func (c *chunk) body(i int) []byte { return c.framed[c.msgs[i].body:c.msgs[i].end] }

// start gives where the frame of a message begins.
func (c *chunk) start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return c.msgs[i-1].end
}

// frames gives messages i to j−1 with their headers.
func (c *chunk) frames(i, j int) []byte { return c.framed[c.start(i):c.start(j)] }

// size is what the chunk takes in memory, roughly.
func (c *chunk) size() int { return cap(c.framed) + 16*cap(c.msgs) + 160 }

// matching counts the messages that match, from the i-th on.
func (c *chunk) matching(m *matcher, i int) (n uint64) {
	if m.all {
		return uint64(len(c.msgs) - i)
	}
	for ; i < len(c.msgs); i++ {
		if m.update(c.body(i)) {
			n++
		}
	}
	return n
}

// encoder cuts batches into chunks. It is used by one goroutine.
type encoder struct {
	line, framed []byte
	msgs         []message
}

// encode cuts a batch into chunks that follow head, the newest seq so far.
// Their ord is not set yet.
func (e *encoder) encode(batch []thing.Update, position, head uint64) []*chunk {
	var chunks []*chunk
	var c *chunk
	seal := func() {
		if c == nil {
			return
		}
		c.framed, c.msgs = bytes.Clone(e.framed), slices.Clone(e.msgs)
		e.framed, e.msgs = e.framed[:0], e.msgs[:0]
		chunks = append(chunks, c)
		c = nil
	}
	for i := range batch {
		u := &batch[i]
		e.line = wire.AppendUpdate(e.line[:0], u)
		if c != nil {
			follows := !u.Kept() && !c.kept() || c.kept() && u.Seq == c.last+1
			if !follows || len(e.framed)+len(e.line) > chunkBytes {
				seal()
			}
		}
		if c == nil {
			if u.Kept() {
				head = u.Seq - 1
			}
			c = &chunk{batch: position, base: head, last: head}
		}
		if u.Kept() {
			head = u.Seq
			c.last = head
		}
		e.framed = zmtp.AppendFrame(e.framed, e.line, false)
		e.msgs = append(e.msgs, message{
			body:     uint32(len(e.framed) - len(e.line)),
			end:      uint32(len(e.framed)),
			received: u.Received,
		})
	}
	seal()
	e.shrink()
	return chunks
}

// shrink gives back what an unusually large message has made grow.
func (e *encoder) shrink() {
	if cap(e.line) > 4*chunkBytes {
		e.line = nil
	}
	if cap(e.framed) > 4*chunkBytes {
		e.framed = nil
	}
}
