package publish

import "sort"

// window holds the newest chunks, bounded in bytes. Publisher.mu guards it.
type window struct {
	ring        []*chunk // chunk ord stands at ord modulo its length, a power of two
	first, next uint64   // ords: held are first <= ord < next
	bytes, max  int
	unkept      int    // chunks of unkept updates among them
	head        uint64 // newest seq published
	batch       uint64 // newest position published
	gone        uint64 // position of the newest chunk no longer held
}

func newWindow(maxBytes int, head uint64) window {
	return window{ring: make([]*chunk, 64), first: 1, next: 1, max: maxBytes, head: head}
}

// at gives a chunk that is held.
func (w *window) at(ord uint64) *chunk { return w.ring[ord&uint64(len(w.ring)-1)] }

// push adds a chunk and gives it its ord.
func (w *window) push(c *chunk) {
	if int(w.next-w.first) == len(w.ring) {
		larger := make([]*chunk, 2*len(w.ring))
		for ord := w.first; ord < w.next; ord++ {
			larger[ord&uint64(len(larger)-1)] = w.at(ord)
		}
		w.ring = larger
	}
	c.ord = w.next
	w.ring[c.ord&uint64(len(w.ring)-1)] = c
	w.next++
	w.bytes += c.size()
	w.head = c.last
	if !c.kept() {
		w.unkept++
	}
}

// evict takes the oldest chunk out while the window is over its bound, nil
// when it is not. The newest always stays.
func (w *window) evict() *chunk {
	if w.bytes <= w.max || w.next-w.first <= 1 {
		return nil
	}
	c := w.at(w.first)
	w.ring[w.first&uint64(len(w.ring)-1)] = nil
	w.first++
	w.bytes -= c.size()
	w.gone = c.batch
	if !c.kept() {
		w.unkept--
	}
	return c
}

// search gives the first ord from `from` on whose chunk is behind, next if
// none is. behind is true for all chunks from some ord on.
func (w *window) search(from uint64, behind func(*chunk) bool) uint64 {
	from = max(from, w.first)
	return from + uint64(sort.Search(int(w.next-from), func(i int) bool { return behind(w.at(from + uint64(i))) }))
}

// afterSeq finds the message behind everything up to seq: chunk ord, and the
// messages of it to pass over. Unkept updates from chunk `unseen` on are not
// passed over. ok is false when the window does not reach back that far.
func (w *window) afterSeq(seq, unseen uint64) (ord uint64, idx int, ok bool) {
	if w.first < w.next && w.at(w.first).base > seq {
		return 0, 0, false
	}
	ord = w.search(unseen, func(c *chunk) bool {
		if c.kept() {
			return c.last > seq
		}
		return c.base >= seq
	})
	if ord < w.next {
		if c := w.at(ord); c.kept() && c.base < seq {
			idx = int(seq - c.base)
		}
	}
	return ord, idx, true
}

// afterBatch finds the first chunk behind a batch; ok is false when the
// window does not reach back that far.
func (w *window) afterBatch(position uint64) (ord uint64, ok bool) {
	if w.gone > position {
		return 0, false
	}
	return w.search(w.first, func(c *chunk) bool { return c.batch > position }), true
}

// target gives the seq up to which a subscriber outside the window reads
// history before it looks again: well inside the window, so that it does not
// fall out at once, but before any unkept update that it has not seen. There
// is a chunk in the window.
func (w *window) target(unseen uint64) uint64 {
	mid := w.first + (w.next-w.first)/2
	if w.unkept > 0 {
		for ord := max(w.first, unseen); ord < mid; ord++ {
			if c := w.at(ord); !c.kept() {
				return c.base
			}
		}
	}
	return w.at(mid).base
}
