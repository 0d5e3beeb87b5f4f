package publish

import (
	"bytes"
	"slices"
)

// trie finds everybody who holds a prefix of a message, in one walk over its
// bytes, however many prefixes there are. It is a radix tree: a node is a
// prefix that somebody holds, or where two part.
type trie[T comparable] struct {
	root trieNode[T]
	held int // prefixes, each holder counted
}

type trieNode[T comparable] struct {
	label []byte // what the node's prefix adds to its parent's
	// kids in no order; firsts[i] is kids[i].label[0], and no two are the
	// same.
	kids   []*trieNode[T]
	firsts []byte
	who    []T
	round  uint64 // the last round that found the node
}

// add notes that who holds prefix. The same twice is the caller's mistake.
func (t *trie[T]) add(prefix []byte, who T) {
	t.held++
	n := &t.root
	for len(prefix) > 0 {
		i := bytes.IndexByte(n.firsts, prefix[0])
		if i < 0 {
			kid := &trieNode[T]{label: slices.Clone(prefix)}
			n.kids, n.firsts = append(n.kids, kid), append(n.firsts, prefix[0])
			n = kid
			break
		}
		kid := n.kids[i]
		common := commonPrefix(kid.label, prefix)
		if common < len(kid.label) {
			fork := &trieNode[T]{
				label:  slices.Clone(kid.label[:common]),
				kids:   []*trieNode[T]{kid},
				firsts: []byte{kid.label[common]},
			}
			kid.label = slices.Clone(kid.label[common:])
			n.kids[i] = fork
			kid = fork
		}
		n, prefix = kid, prefix[common:]
	}
	n.who = append(n.who, who)
}

// remove takes back an add. It is false when there was none.
func (t *trie[T]) remove(prefix []byte, who T) bool {
	if !t.root.remove(prefix, who) {
		return false
	}
	t.held--
	return true
}

func (n *trieNode[T]) remove(prefix []byte, who T) bool {
	if len(prefix) == 0 {
		i := slices.Index(n.who, who)
		if i < 0 {
			return false
		}
		last := len(n.who) - 1
		n.who[i] = n.who[last]
		n.who = slices.Delete(n.who, last, last+1)
		return true
	}
	i := bytes.IndexByte(n.firsts, prefix[0])
	if i < 0 {
		return false
	}
	kid := n.kids[i]
	if !bytes.HasPrefix(prefix, kid.label) || !kid.remove(prefix[len(kid.label):], who) {
		return false
	}
	if len(kid.who) > 0 {
		return true
	}
	switch len(kid.kids) {
	case 0:
		n.kids, n.firsts = slices.Delete(n.kids, i, i+1), slices.Delete(n.firsts, i, i+1)
	case 1: // nobody's and no fork any more
		only := kid.kids[0]
		only.label = append(kid.label, only.label...)
		n.kids[i] = only
	}
	return true
}

// find appends to found who holds a prefix of msg. A node that was found in
// this round before is passed over: so many messages are looked up for the
// price of naming everybody once.
func (t *trie[T]) find(msg []byte, round uint64, found []T) []T {
	n := &t.root
	for {
		if n.round != round {
			n.round = round
			found = append(found, n.who...)
		}
		if len(msg) == 0 {
			return found
		}
		i := bytes.IndexByte(n.firsts, msg[0])
		if i < 0 {
			return found
		}
		n = n.kids[i]
		if !bytes.HasPrefix(msg, n.label) {
			return found
		}
		msg = msg[len(n.label):]
	}
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
