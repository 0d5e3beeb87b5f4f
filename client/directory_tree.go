package client

import (
	"slices"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// node is what a Directory has of one Thing. Directory.mu guards it; the
// bytes of its update are never written to.
type node struct {
	name          thing.Name
	parent        *node // nil for the directory's own
	children      []*node
	known         bool   // there was data
	latest        Update // Doc is the documentation URL in force
	subscriptions []*Subscription
}

// nodeBytes is what a node takes, roughly, beside its name and its update.
const nodeBytes = 384

// fits tells whether there is room for an update; d.mu is held. A name of many
// parts that nothing is known of makes as many nodes.
func (d *Directory) fits(u *Update) bool {
	more := int64(len(u.Name) + u.Size())
	if n := d.nodes[u.Name]; n != nil && !wire.Truthy(u.Doc) {
		more += int64(len(n.latest.Doc) - len(u.Doc)) // it stays in force
	}
	at, ok := u.Name, true
	for ; ok && d.nodes[at] == nil; at, ok = at.Parent() {
		more += nodeBytes
	}
	if n := d.nodes[u.Name]; n != nil && n.known {
		more -= n.bytes()
	}
	return more <= 0 || d.bytes+more <= d.client.o.MaxDirectory
}

// bytes is what a node that is known takes more than one that is not.
func (n *node) bytes() int64 { return int64(len(n.name) + n.latest.Size()) }

// node gives the node of a name, which lies in the directory, and makes it
// and those above it if need be; d.mu is held.
func (d *Directory) node(name thing.Name) *node {
	if n := d.nodes[name]; n != nil {
		return n
	}
	n := &node{name: name}
	d.nodes[name] = n
	d.bytes += nodeBytes
	if name != d.name {
		above, _ := name.Parent()
		n.parent = d.node(above)
		n.parent.children = append(n.parent.children, n)
	}
	return n
}

// set takes an update over; d.mu is held.
func (d *Directory) set(n *node, u *Update) {
	if n.known {
		d.bytes -= n.bytes()
	}
	doc := n.latest.Doc
	if wire.Truthy(u.Doc) {
		doc = u.Doc
	}
	n.known, n.latest = true, *u
	n.latest.Doc = doc
	d.bytes += n.bytes()
}

// unset forgets the data of a node; d.mu is held.
func (d *Directory) unset(n *node) {
	if n.known {
		d.bytes -= n.bytes()
	}
	n.known, n.latest = false, Update{}
}

// nearest gives the node of a name, or else the next above it that there is;
// nil for none. d.mu is held.
func (d *Directory) nearest(name thing.Name) *node {
	for ok := true; ok; name, ok = name.Parent() {
		if n := d.nodes[name]; n != nil {
			return n
		}
	}
	return nil
}

// prune removes a node that says nothing any more, and those above it of
// which the same is true; d.mu is held.
func (d *Directory) prune(n *node) {
	for n != nil && !n.known && len(n.children) == 0 && len(n.subscriptions) == 0 {
		delete(d.nodes, n.name)
		d.bytes -= nodeBytes
		if n.parent != nil {
			n.parent.children = without(n.parent.children, n)
		}
		n = n.parent
	}
}

// below gives the names of n and all below it.
func (n *node) below(names []thing.Name) []thing.Name {
	names = append(names, n.name)
	for _, c := range n.children {
		names = c.below(names)
	}
	return names
}

// without gives a new list that lacks one: the old one may be in use.
func without[T comparable](all []T, one T) []T {
	return slices.DeleteFunc(slices.Clone(all), func(v T) bool { return v == one })
}
