package directory

import (
	"slices"
	"strings"

	"tbhist/thing"
)

// What is done under the lock at a time.
const (
	chunkItems = 128
	chunkBytes = 256 << 10
)

// settleFrom is how many new Things are put in order without the lock.
const settleFrom = 256

func byName(a, b *item) int { return strings.Compare(string(a.name), string(b.name)) }

// merge puts fresh, which it orders, between the items of sorted, in a new
// slice.
func merge(sorted, fresh []*item) []*item {
	slices.SortFunc(fresh, byName)
	merged := make([]*item, 0, len(sorted)+len(fresh))
	for _, it := range fresh {
		n, _ := slices.BinarySearchFunc(sorted, it, byName)
		merged = append(append(merged, sorted[:n]...), it)
		sorted = sorted[n:]
	}
	return append(merged, sorted...)
}

// index gives all Things in byte order of their names. The slice is never
// written to again. d.mu is held for writing; call settle before that.
func (d *Directory) index() []*item {
	if len(d.fresh) > 0 {
		d.sorted, d.fresh = merge(d.sorted, d.fresh), nil
		d.merges++
	}
	return d.sorted
}

// settle puts new Things in order while others go on, so that index finds
// few of them. Ordering 100,000 names takes 100 ms.
func (d *Directory) settle() {
	d.mu.RLock()
	sorted, merges := d.sorted, d.merges
	var fresh []*item
	if len(d.fresh) >= settleFrom {
		fresh = slices.Clone(d.fresh)
	}
	d.mu.RUnlock()
	if fresh == nil {
		return
	}
	taken := len(fresh)
	merged := merge(sorted, fresh)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.merges != merges {
		return // another one was faster
	}
	d.sorted = merged
	d.fresh = slices.Clone(d.fresh[taken:])
	d.merges++
}

// from gives the part of a sorted slice that begins at name.
func from(sorted []*item, name string) []*item {
	n, _ := slices.BinarySearchFunc(sorted, name, func(it *item, name string) int {
		return strings.Compare(string(it.name), name)
	})
	return sorted[n:]
}

// within gives the Things that are under (and, if tree, below it), and
// behind after, unless that is nil. What lies below a Thing is not next to
// it in the order: "a-b" comes between "a" and "a.b".
func within(sorted []*item, after *thing.Name, under thing.Name, tree bool) [][]*item {
	if after != nil {
		sorted = from(sorted, string(*after)+"\x00")
	}
	if under == "" && tree {
		return [][]*item{sorted}
	}
	own := from(sorted, string(under))
	own = own[:min(1, len(own))]
	if len(own) == 1 && own[0].name != under {
		own = nil
	}
	if !tree {
		return [][]*item{own}
	}
	below := from(sorted, string(under)+".")
	return [][]*item{own, below[:len(below)-len(from(below, string(under)+"/"))]} // "/" follows "."
}

// Walk calls yield with each Thing that is under (and, if tree, all below
// it) in byte order of names, behind after unless that is nil, until it
// returns false. The entry is valid during the call only. No lock is held
// meanwhile: what changes during the walk is seen or not.
func (d *Directory) Walk(after *thing.Name, under thing.Name, tree bool, yield func(*Entry) bool) {
	d.settle()
	d.mu.Lock()
	sorted := d.index()
	d.mu.Unlock()
	now := d.now()
	var buf []byte
	entries := make([]Entry, chunkItems)
	for _, items := range within(sorted, after, under, tree) {
		for len(items) > 0 {
			n, passed := 0, 0
			buf = buf[:0]
			d.mu.RLock()
			for passed < min(len(items), chunkItems) && len(buf) < chunkBytes {
				it := items[passed]
				passed++
				if !it.gone {
					buf = it.entry(&entries[n], now, buf)
					n++
				}
			}
			d.mu.RUnlock()
			for i := range n {
				if !yield(&entries[i]) {
					return
				}
			}
			items = items[passed:]
		}
	}
}
