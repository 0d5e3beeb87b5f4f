package ingest

import "tbhist/thing"

// deny is a set of namespaces that are refused with all below them.
type deny map[thing.Name]struct{}

func newDeny(names []thing.Name) deny {
	d := make(deny, len(names))
	for _, name := range names {
		d[name] = struct{}{}
	}
	return d
}

// has tells whether a namespace is refused. It is asked once for a Thing that
// is known, and for each message of one that is not.
func (d deny) has(ns []byte) bool {
	if len(d) == 0 {
		return false
	}
	if _, ok := d[""]; ok {
		return true
	}
	for i, c := range ns {
		if c == '.' {
			if _, ok := d[thing.Name(ns[:i])]; ok {
				return true
			}
		}
	}
	_, ok := d[thing.Name(ns)]
	return ok
}
