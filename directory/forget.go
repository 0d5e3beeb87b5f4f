package directory

import (
	"slices"

	"tbhist/thing"
)

// Forget takes a Thing, and with tree all below it, out of the directory, and
// gives their names in byte order. A snapshot or a walk under way leaves out
// what it has not come to yet. It belongs to the caller of Apply: an update
// that comes after it makes a new Thing.
func (d *Directory) Forget(name thing.Name, tree bool) []thing.Name {
	d.settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []thing.Name
	for _, items := range within(d.index(), nil, name, tree) {
		for _, it := range items {
			it.gone = true
			if d.cut != nil {
				delete(d.cut.saved, it)
			}
			delete(d.items, it.name)
			names = append(names, it.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	kept := make([]*item, 0, len(d.items))
	for _, it := range d.sorted {
		if !it.gone {
			kept = append(kept, it)
		}
	}
	d.sorted = kept
	d.merges++ // a settle under way would bring them back
	d.slots = thing.Slots[item]{}
	clear(d.found[:cap(d.found)])
	return slices.Clip(names)
}
