package ingest

import "tbhist/thing"

// Between has the consumer call f in Next, between two batches: what came in
// and was not taken by then is behind it. It does not wait. It is false after
// Close: then f is not called.
func (in *Ingest) Between(f func()) bool {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return false
	}
	in.between = append(in.between, f)
	in.mu.Unlock()
	in.wake()
	return true
}

// callBetween calls what Between was given.
func (in *Ingest) callBetween() {
	in.mu.Lock()
	fs := in.between
	in.between = nil
	in.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// Forget makes a Thing, and with tree all below it, unknown: they no longer
// count against MaxThings. One of which an update is waiting to be taken stays
// known, since that will make it anew. It belongs to the consumer.
func (in *Ingest) Forget(name thing.Name, tree bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	waiting := make(map[thing.Name]struct{})
	for i := range in.gather.Updates {
		waiting[in.gather.Updates[i].Name] = struct{}{}
	}
	forget := func(k known) {
		if _, ok := waiting[k.name]; ok {
			return
		}
		delete(in.names, string(k.name))
		in.slots = append(in.slots, k.slot)
	}
	if !tree {
		if k, ok := in.names[string(name)]; ok {
			forget(k)
		}
	} else {
		for _, k := range in.names {
			if k.name.Under(name) {
				forget(k)
			}
		}
	}
	in.warned = in.warned && len(in.names)*10 >= in.o.MaxThings*8
}
