package ingest

import (
	"context"
	"io"
	"time"

	"tbhist/thing"
)

// Batch is what came in while the one before it was being worked on. It and
// all its bytes are the consumer's until Release.
type Batch struct {
	// Updates are in the order of arrival, Seq and ThingSeq 0.
	Updates []thing.Update
	// Bytes is the size of all data and documentation URLs.
	Bytes int

	opened time.Time // when the first update was put in
	// chunks hold what Updates refers to; the last of used is being filled.
	used, spare [][]byte
}

// chunkSize is the unit of a batch's memory. What needs more gets a chunk
// of its own, which is not reused.
const chunkSize = 256 << 10

// keep copies data and doc into the batch.
func (b *Batch) keep(data, doc []byte) (keptData, keptDoc []byte) {
	need := len(data) + len(doc)
	last := len(b.used) - 1
	if last < 0 || cap(b.used[last])-len(b.used[last]) < need {
		b.used = append(b.used, b.chunk(need))
		last++
	}
	c := b.used[last]
	lo, mid := len(c), len(c)+len(data)
	c = append(append(c, data...), doc...)
	b.used[last] = c
	keptData = c[lo:mid:mid]
	if doc != nil {
		keptDoc = c[mid:len(c):len(c)]
	}
	return keptData, keptDoc
}

func (b *Batch) chunk(need int) []byte {
	if n := len(b.spare); n > 0 && need <= chunkSize {
		c := b.spare[n-1]
		b.spare = b.spare[:n-1]
		return c
	}
	return make([]byte, 0, max(need, chunkSize))
}

// reset empties the batch and keeps its memory.
func (b *Batch) reset() {
	clear(b.Updates)
	b.Updates, b.Bytes = b.Updates[:0], 0
	for i, c := range b.used {
		if cap(c) == chunkSize {
			b.spare = append(b.spare, c[:0])
		}
		b.used[i] = nil
	}
	b.used = b.used[:0]
}

// full tells whether inputs must wait; half whether a batch is worth taking
// before its time; overfull that not even an input that ends may add to it.
// All are called under mu.
func (in *Ingest) full() bool { return in.filled(in.o.QueueUpdates, in.o.QueueBytes) }

func (in *Ingest) half() bool { return in.filled((in.o.QueueUpdates+1)/2, (in.o.QueueBytes+1)/2) }

func (in *Ingest) overfull() bool { return in.filled(2*in.o.QueueUpdates, 2*in.o.QueueBytes) }

func (in *Ingest) filled(updates, bytes int) bool {
	return len(in.gather.Updates) >= updates || in.gather.Bytes >= bytes
}

// makeSpace releases the inputs that wait. It is called under mu.
func (in *Ingest) makeSpace() {
	if in.space != nil {
		close(in.space)
		in.space = nil
	}
}

// wake tells the consumer to look again.
func (in *Ingest) wake() {
	select {
	case in.ready <- struct{}{}:
	default: // it was told already
	}
}

// handOver puts a burst into the gathering batch and empties it. While the
// batch is full it waits. The end of ctx ends the waiting: what was taken
// from a peer is still put in, unless too many inputs end at once. It is
// false when the burst was not taken: then, and after Close.
func (in *Ingest) handOver(ctx context.Context, b *burst, transport thing.Transport) bool {
	if len(b.items) == 0 {
		return true
	}
	in.mu.Lock()
	for in.full() && !in.closed && ctx.Err() == nil {
		if in.space == nil {
			in.space = make(chan struct{})
		}
		space := in.space
		in.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
		}
		in.mu.Lock()
	}
	if in.closed || in.overfull() {
		in.mu.Unlock()
		in.o.Logger.Warn("updates lost: the input was closed while they waited to be taken",
			"transport", transport.String(), "updates", len(b.items))
		return false
	}
	wasEmpty, wasHalf := len(in.gather.Updates) == 0, in.half()
	accepted := in.put(b, transport)
	wake := accepted > 0 && wasEmpty || in.half() && !wasHalf
	warn, things := in.crowded(), len(in.names)
	in.mu.Unlock()

	if wake {
		in.wake()
	}
	if warn {
		in.warn(things)
	}
	for _, i := range b.over {
		item := &b.items[i]
		in.refuse(item.source, b.found[i].reason, item.sample[:item.sampled])
	}
	b.reset()
	return true
}

// put is handOver's work under mu. It counts what it takes before anybody
// can see it.
func (in *Ingest) put(b *burst, transport thing.Transport) (accepted int) {
	var nonfinite, surrogates int
	g := in.gather
	// Names are looked up in a pass of their own: where there are many, the
	// processor then waits for the memory of several at a time.
	b.found = b.found[:0]
	for i := range b.items {
		b.found = append(b.found, in.find(b.items[i].draft.NS))
	}
	for i := range b.items {
		item := &b.items[i]
		d := &item.draft
		of := b.found[i]
		if of.refused {
			b.over = append(b.over, i)
			continue
		}
		if len(g.Updates) == 0 {
			g.opened = time.Now()
		}
		data, doc := g.keep(d.Data, d.Doc)
		ts := d.TS
		if !d.HasTS {
			ts = b.received.Seconds()
		}
		g.Updates = append(g.Updates, thing.Update{
			Name: of.name, Slot: of.slot, Data: data, Doc: doc, TS: ts, Received: b.received, Source: item.source,
		})
		g.Bytes += len(data) + len(doc)
		accepted++
		nonfinite += d.Nonfinite
		surrogates += d.Surrogates
	}
	in.metrics.Accepted[transport].Add(float64(accepted))
	if nonfinite > 0 {
		in.metrics.NormalisedNonfinite.Add(float64(nonfinite))
	}
	if surrogates > 0 {
		in.metrics.NormalisedSurrogate.Add(float64(surrogates))
	}
	return accepted
}

// Next waits for the next batch, which is never empty. With gather above 0
// it lets the batch fill until that long after its first update, or until
// it is half full. It calls what Between was given. After Close it hands out what is left at once, and then
// io.EOF. The end of ctx is its error, and loses nothing: what has gathered
// is there for the next call.
func (in *Ingest) Next(ctx context.Context, gather time.Duration) (*Batch, error) {
	var timer *time.Timer
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		in.callBetween()
		b, wait, err := in.take(gather)
		if b != nil || err != nil {
			return b, err
		}
		var elapsed <-chan time.Time // never, while the batch is empty
		if wait > 0 {
			if timer == nil {
				timer = time.NewTimer(wait)
				defer timer.Stop()
			} else {
				timer.Reset(wait)
			}
			elapsed = timer.C
		}
		select {
		case <-in.ready:
		case <-elapsed:
		case <-ctx.Done():
		}
	}
}

// take gives the gathering batch if it is due, or else how long until it
// is, 0 while it is empty.
func (in *Ingest) take(gather time.Duration) (b *Batch, wait time.Duration, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	b = in.gather
	if len(b.Updates) == 0 {
		if in.closed && len(in.between) == 0 {
			return nil, 0, io.EOF
		}
		return nil, 0, nil
	}
	if gather > 0 && !in.closed && !in.half() {
		if wait = gather - time.Since(b.opened); wait > 0 {
			return nil, wait, nil
		}
	}
	if n := len(in.free); n > 0 {
		in.gather = in.free[n-1]
		in.free = in.free[:n-1]
	} else {
		in.gather = &Batch{}
	}
	in.makeSpace()
	return b, 0, nil
}

// Release gives a batch back: neither it nor any bytes of its updates may be
// used from then on. Names and sources stay good.
func (in *Ingest) Release(b *Batch) {
	b.reset()
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.free) == 0 { // one gathers, one is worked on: no more are needed
		in.free = append(in.free, b)
	}
}
