package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"tbhist/store"
)

// treeWalk says what is wanted of a walk over one bucket's pages.
type treeWalk struct {
	// leaves: read them too, not only what points to them.
	leaves bool
	// from and to narrow the walk to what may hold from <= key < to and the
	// leaves beside that; nil is no bound. Pages are marked as used only by a
	// walk without either.
	from, to []byte
	// leaf gets each leaf: keys in it are lo <= key < hi (nil: no bound). es is
	// nil where it was not read. Slices live during the call.
	leaf func(lo, hi []byte, id uint64, es []element)
	// bad gets what cannot be read, and all below it.
	bad func(lo, hi []byte, id uint64, level int, err error)
}

// walk goes over the pages of the tree below root, in the order of keys.
func (p *pages) walk(w *treeWalk, root uint64) {
	if w.marks() && !p.mark(root) {
		w.bad(nil, nil, root, 0, errPageTwice)
		return
	}
	p.node(w, root, 0, p.height(root), nil, nil)
}

func (w *treeWalk) marks() bool { return w.from == nil && w.to == nil }

// mark notes that something points to a page: false if something did before,
// or if there is none.
func (p *pages) mark(id uint64) bool {
	if id < 2 || id >= p.meta.high || p.used.has(id) {
		return false
	}
	p.used.set(id)
	return true
}

// height is how many levels are above the leaves of a tree: all leaves of one
// are at the same.
func (p *pages) height(id uint64) int {
	var buf []byte
	var es []element
	for level := range maxHeight {
		pg, err := p.at(id, buf)
		if err != nil || pg.flags() != branchPage {
			return level
		}
		if es, err = pg.elements(es[:0]); err != nil || len(es) == 0 {
			return level
		}
		// The first of the children that is whole will do.
		id = es[0].child
		for i := range es {
			if below, err := p.at(es[i].child, nil); err == nil && below.flags() != freelistPage {
				id = es[i].child
				break
			}
		}
		buf = nil
	}
	return maxHeight
}

func (p *pages) node(w *treeWalk, id uint64, level, height int, lo, hi []byte) {
	l := &p.levels[level]
	pg, err := p.at(id, l.page)
	l.page = pg
	kind := uint16(branchPage)
	if level == height {
		kind = leafPage
	}
	if err == nil && pg.flags() != kind {
		err = errPageHeader
	}
	if err == nil {
		l.elements, err = pg.elements(l.elements[:0])
	}
	if err == nil {
		err = within(l.elements, lo, hi)
	}
	if err == nil && level < height && len(l.elements) == 0 {
		err = errPageHeader
	}
	if err == nil && w.marks() {
		for over := id + 1; over <= id+pg.overflow(); over++ {
			if !p.mark(over) {
				err = errPageTwice
			}
		}
	}
	if err != nil {
		if w.marks() && id >= 2 && id < p.meta.high {
			p.used.clear(id) // it may be another tree's
		}
		w.bad(lo, hi, id, level, err)
		return
	}
	if level == height {
		w.leaf(lo, hi, id, l.elements)
		return
	}
	for i := range l.elements {
		from, to := l.elements[i].key, hi
		if i == 0 {
			from = lo // bbolt looks for what is below all in the first
		}
		if i+1 < len(l.elements) {
			to = l.elements[i+1].key
		}
		if !w.wants(l.elements, i, hi) {
			continue
		}
		child := l.elements[i].child
		switch {
		case w.marks() && !p.mark(child):
			w.bad(from, to, child, level+1, errPageTwice)
		case level+1 == height && !w.leaves:
			p.unread.set(child)
			w.leaf(from, to, child, nil)
		default:
			p.node(w, child, level+1, height, from, to)
		}
	}
}

// wants tells whether a child, or one beside it, may hold what the walk is
// about.
func (w *treeWalk) wants(es []element, i int, hi []byte) bool {
	if w.marks() {
		return true
	}
	// The child before and the one behind count too.
	next := hi
	if i+2 < len(es) {
		next = es[i+2].key
	}
	if w.from != nil && next != nil && bytes.Compare(next, w.from) < 0 {
		return false
	}
	return w.to == nil || i == 0 || bytes.Compare(es[i-1].key, w.to) < 0
}

// tree is one bucket as the root page has it.
type tree struct {
	name string
	// root is its page, 0 for a bucket that stands in the root page itself as
	// inline.
	root, sequence uint64
	inline         []byte
}

// trees reads the root page: an error leaves nothing to go by.
func (p *pages) trees() ([]tree, error) {
	var out []tree
	var wrong error
	// The root of what this program writes has about ten entries: one page, or
	// a branch above a few.
	w := treeWalk{leaves: true}
	w.bad = func(_, _ []byte, id uint64, _ int, err error) { wrong = fmt.Errorf("the root page %d: %w", id, err) }
	w.leaf = func(_, _ []byte, id uint64, es []element) {
		for i := range es {
			t, ok := parseTree(&es[i])
			if !ok {
				wrong = fmt.Errorf("the root page %d: %w", id, errPageElement)
				return
			}
			out = append(out, t)
		}
	}
	p.walk(&w, p.meta.root)
	return out, wrong
}

func parseTree(e *element) (tree, bool) {
	if e.flags != 1 || len(e.value) < pageBucket {
		return tree{}, false
	}
	t := tree{name: string(e.key), root: native.Uint64(e.value), sequence: native.Uint64(e.value[8:])}
	if t.root != 0 {
		return t, len(e.value) == pageBucket
	}
	t.inline = bytes.Clone(e.value[pageBucket:])
	if len(t.inline) < pageHeader || page(t.inline).flags() != leafPage {
		return tree{}, false
	}
	_, err := page(t.inline).elements(nil)
	return t, err == nil
}

// pageDamage is a page that cannot be used.
type pageDamage struct {
	tree   int // of those that trees gave; -1 for none
	lo, hi []byte
	id     uint64
	level  int
	err    error
}

// survey is what a look at a file's pages found.
type survey struct {
	*pages
	found   []tree
	missing []string
	damage  []pageDamage
	// freelist is what is wrong with that, nil for nothing; freelistRead tells
	// that it could be read.
	freelist     error
	freelistRead bool
}

// errDamagedFile: too much of the file's structure is gone to go by what is
// left.
var errDamagedFile = store.ErrDamaged

// takeSurvey looks at the pages: all of them, or those that a start reads and
// what points to the others. An error leaves nothing to go by.
func takeSurvey(p *pages, all bool, leaf func(tree int, lo, hi []byte, id uint64, es []element)) (*survey, error) {
	s := &survey{pages: p}
	var err error
	if s.found, err = p.trees(); err != nil {
		return nil, err
	}
	for i, t := range s.found {
		if t.root == 0 {
			continue
		}
		w := treeWalk{leaves: all || (t.name != string(bucketIndex) && t.name != string(bucketBlocks))}
		w.leaf = func(lo, hi []byte, id uint64, es []element) {
			for j := range es {
				if es[j].flags != 0 {
					s.note(i, lo, hi, id, 0, errPageElement)
					return
				}
			}
			if leaf != nil {
				leaf(i, lo, hi, id, es)
			}
		}
		w.bad = func(lo, hi []byte, id uint64, level int, err error) { s.note(i, lo, hi, id, level, err) }
		p.walk(&w, t.root)
		if !w.leaves {
			// What comes next is put behind the last.
			last := treeWalk{leaves: true, from: bytes.Repeat([]byte{0xff}, 16), leaf: func(_, _ []byte, _ uint64, _ []element) {}}
			last.bad = func(lo, hi []byte, id uint64, level int, err error) {
				if !s.noted(id) {
					s.note(i, lo, hi, id, level, err)
				}
			}
			p.walk(&last, t.root)
		}
	}
	for _, name := range allBuckets {
		if !s.has(string(name)) {
			s.missing = append(s.missing, string(name))
		}
	}
	// Not every history has this one; what may be it was not given another name.
	if name := string(bucketForgotten); !s.has(name) && similar(s.found, name) >= 0 {
		s.missing = append(s.missing, name)
	}
	if s.freelist = p.readFreelist(); s.freelist == nil {
		s.freelistRead = true
		// Of pages that damage hides nothing is known.
		if err := p.settleFree(); len(s.damage) == 0 {
			s.freelist = err
		}
	}
	return s, nil
}

// said is what is wrong, in the words of docs/FORMAT.md.
func (s *survey) said() []error {
	var out []error
	say := func(where string, seq uint64, err error) {
		out = append(out, &store.CorruptionError{Where: where, Seq: seq, Err: err})
	}
	for i := range s.damage {
		d := &s.damage[i]
		var seq uint64
		if name := s.found[d.tree].name; keysOf[name] >= 8 && len(d.lo) >= 8 {
			seq = binary.BigEndian.Uint64(d.lo)
		}
		say(fmt.Sprintf("%s, page %d of the file", s.found[d.tree].name, d.id), seq, d.err)
	}
	for _, name := range s.missing {
		say("bucket "+name, 0, errNoRecord)
	}
	if s.freelist != nil {
		say("list of free pages", 0, s.freelist)
	}
	return out
}

func (s *survey) note(tree int, lo, hi []byte, id uint64, level int, err error) {
	s.damage = append(s.damage, pageDamage{tree, bytes.Clone(lo), bytes.Clone(hi), id, level, err})
}

func (s *survey) noted(id uint64) bool {
	for i := range s.damage {
		if s.damage[i].id == id {
			return true
		}
	}
	return false
}

func (s *survey) has(name string) bool {
	for _, t := range s.found {
		if t.name == name {
			return true
		}
	}
	return false
}

// whole tells whether nothing is wrong.
func (s *survey) whole() bool { return len(s.damage) == 0 && s.freelist == nil && len(s.missing) == 0 }
