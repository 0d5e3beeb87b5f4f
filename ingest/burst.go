package ingest

import (
	"errors"

	"tbhist/internal/wire"
	"tbhist/thing"
)

const (
	// A burst ends, however much more there is to read, at so many messages
	// or bytes.
	burstItems = 256
	burstBytes = 64 << 10
	// An arena that a large message has grown beyond this is not kept.
	keepArena = 256 << 10
	// sampleBytes of a refused message are shown.
	sampleBytes = 80
)

// burst is what one input decoded and has not handed over yet. Only one
// goroutine has it at a time, and an input that waits for its peer has none.
type burst struct {
	dec      *wire.Decoder
	arena    []byte // what the drafts lie in
	items    []item
	found    []known      // the Thing of each item, at the hand-over
	over     []int        // items refused at the hand-over: their Thing says why
	received thing.Micros // when it came in
}

type item struct {
	draft   wire.Draft
	source  *thing.Source
	sampled int
	sample  [sampleBytes]byte // of the message, should it be refused later
}

func newBurst(l wire.Limits) *burst {
	return &burst{dec: wire.NewDecoder(l)}
}

func (b *burst) reset() {
	if cap(b.arena) > keepArena {
		b.arena = nil
		clear(b.items) // they hold on to it too
	}
	b.arena, b.items, b.over = b.arena[:0], b.items[:0], b.over[:0]
}

func (b *burst) full() bool {
	return len(b.items) >= burstItems || len(b.arena) >= burstBytes
}

// decode adds one message to the burst, or refuses it.
func (in *Ingest) decode(b *burst, message []byte, source *thing.Source) {
	if len(message) == 0 {
		in.refuse(source, thing.ReasonEmpty, nil)
		return
	}
	n := len(b.items)
	if n == cap(b.items) {
		b.items = append(b.items, item{})
	} else {
		b.items = b.items[:n+1]
	}
	it := &b.items[n]
	var err error
	if source.Transport == thing.UDP {
		b.arena, err = b.dec.Msgpack(b.arena, message, &it.draft)
	} else {
		b.arena, err = b.dec.JSON(b.arena, message, &it.draft)
	}
	if err != nil {
		b.items = b.items[:n]
		in.refuse(source, reasonOf(err, source.Transport), message)
		return
	}
	it.source = source
	it.sampled = copy(it.sample[:], message)
}

// reasonOf finds a decoder's reason. It gives no other errors; if it did,
// the message would still be one that could not be read.
func reasonOf(err error, transport thing.Transport) thing.Reason {
	if r, ok := errors.AsType[*thing.Refusal](err); ok {
		return r.Reason
	}
	if transport == thing.UDP {
		return thing.ReasonNotMsgpack
	}
	return thing.ReasonNotJSON
}
