package bolt

import (
	"bytes"
	"cmp"
	"errors"
	"hash/fnv"
	"io"
	"math/bits"
	"slices"
)

// mendable is a file whose pages may be mended.
type mendable interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// mendPages makes the file one that bbolt can work on: every page that cannot
// be used is left out of its tree, with what of it is whole put in its place,
// and what is free is worked out anew. Nothing that the newest meta page points
// to is written over before the new one is on disk, so that it may end at any
// instant. It reads the whole file. What is left out is in the answer.
func mendPages(f mendable) ([]error, error) {
	p, err := openPages(f)
	if err != nil {
		return nil, errors.Join(errDamagedFile, err)
	}
	leaves := make(map[int][]leafRef)
	s, err := takeSurvey(p, true, func(tree int, _, _ []byte, id uint64, es []element) {
		if len(es) > 0 {
			leaves[tree] = append(leaves[tree], refOf(es, id))
		}
	})
	if err != nil {
		return nil, errors.Join(errDamagedFile, err)
	}
	if s.whole() {
		return nil, nil
	}
	said := s.said()
	m := &mender{survey: s, f: f, high: p.meta.high}
	broken := make(map[int]bool)
	for i := range s.damage {
		broken[s.damage[i].tree] = true
		leaves[s.damage[i].tree] = append(leaves[s.damage[i].tree], m.rescue(&s.damage[i])...)
	}
	for i := range s.found {
		if broken[i] {
			s.found[i].root = m.build(inOrder(leaves[i]))
		}
	}
	m.nameTrees()
	if m.err == nil {
		m.err = m.finish()
	}
	return said, m.err
}

// inOrder sorts what was found of a tree, and leaves out what lies within
// something else.
func inOrder(refs []leafRef) []leafRef {
	slices.SortStableFunc(refs, func(a, b leafRef) int { return bytes.Compare(a.key, b.key) })
	var out []leafRef
	for _, r := range refs {
		if n := len(out); n == 0 || bytes.Compare(r.key, out[n-1].last) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// leafRef is a page below a branch.
type leafRef struct {
	key, last []byte // the least and the largest there
	id        uint64
}

func refOf(es []element, id uint64) leafRef {
	return leafRef{bytes.Clone(es[0].key), bytes.Clone(es[len(es)-1].key), id}
}

// mender writes new pages behind all others.
type mender struct {
	*survey
	f    mendable
	high uint64
	err  error
	// strays are the leaves that nothing points to, in the order of keys; sought
	// tells that they are known.
	strays []leafRef
	sought bool
}

// put writes a page of elements and gives its number.
func (m *mender) put(flags uint16, es []element) uint64 {
	size := pageHeader
	for i := range es {
		size += pageElement + len(es[i].key) + len(es[i].value)
	}
	n := (size + pageSize - 1) / pageSize
	id := m.high
	pg := page(make([]byte, n*pageSize))
	m.header(pg, id, flags, len(es), n)
	next := pageHeader + len(es)*pageElement
	for i := range es {
		e := pg.element(i)
		pos := uint32(next - pageHeader - i*pageElement)
		if flags == branchPage {
			native.PutUint32(e, pos)
			native.PutUint32(e[4:], uint32(len(es[i].key)))
			native.PutUint64(e[8:], es[i].child)
		} else {
			native.PutUint32(e, es[i].flags)
			native.PutUint32(e[4:], pos)
			native.PutUint32(e[8:], uint32(len(es[i].key)))
			native.PutUint32(e[12:], uint32(len(es[i].value)))
		}
		next += copy(pg[next:], es[i].key)
		next += copy(pg[next:], es[i].value)
	}
	m.write(pg, id)
	m.high += uint64(n)
	return id
}

func (m *mender) header(pg page, id uint64, flags uint16, count, n int) {
	native.PutUint64(pg, id)
	native.PutUint16(pg[8:], flags)
	native.PutUint16(pg[10:], uint16(count))
	native.PutUint32(pg[12:], uint32(n-1))
}

func (m *mender) write(pg page, id uint64) {
	if m.err == nil {
		_, m.err = m.f.WriteAt(pg, int64(id)*pageSize)
	}
}

// build makes the branches above some leaves and gives the root.
func (m *mender) build(refs []leafRef) uint64 {
	if len(refs) == 0 {
		return m.put(leafPage, nil)
	}
	for len(refs) > 1 {
		longest := 0
		for _, r := range refs {
			longest = max(longest, len(r.key))
		}
		// As many on each page: one of a single child breaks bbolt.
		fit := max((pageSize-pageHeader)/(pageElement+longest), 2)
		parts := (len(refs) + fit - 1) / fit
		above := make([]leafRef, 0, parts)
		for i := range parts {
			part := refs[i*len(refs)/parts : (i+1)*len(refs)/parts]
			es := make([]element, len(part))
			for j, r := range part {
				es[j] = element{key: r.key, child: r.id}
			}
			above = append(above, leafRef{part[0].key, part[len(part)-1].last, m.put(branchPage, es)})
		}
		refs = above
	}
	return refs[0].id
}

// nameTrees makes the root page anew, with an empty bucket for each that is
// missing.
func (m *mender) nameTrees() {
	trees := slices.Clone(m.found)
	for _, name := range m.missing {
		if i := similar(trees, name); i >= 0 {
			trees[i].name = name
			continue
		}
		trees = append(trees, tree{name: name, root: m.build(nil)})
	}
	slices.SortFunc(trees, func(a, b tree) int { return cmp.Compare(a.name, b.name) })
	var refs []leafRef
	var es []element
	size := pageHeader
	flush := func() {
		if len(es) > 0 {
			refs = append(refs, refOf(es, m.put(leafPage, es)))
		}
		es, size = nil, pageHeader
	}
	for _, t := range trees {
		if m.spoiled && t.name == string(bucketMeta) {
			t.sequence = seqSpoiled
		}
		value := make([]byte, pageBucket, pageBucket+len(t.inline))
		native.PutUint64(value, t.root)
		native.PutUint64(value[8:], t.sequence)
		if t.root == 0 {
			value = append(value, t.inline...)
		}
		e := element{key: []byte(t.name), value: value, flags: 1}
		if n := pageElement + len(e.key) + len(e.value); size+n > pageSize {
			flush()
		} else {
			size += n
		}
		es = append(es, e)
	}
	flush()
	m.meta.root = m.build(refs)
}

// similar finds the tree whose name is another's but for a few bits: no
// program gave it.
func similar(trees []tree, name string) int {
	for i, t := range trees {
		if len(t.name) != len(name) || slices.ContainsFunc(allBuckets, func(b []byte) bool { return string(b) == t.name }) {
			continue
		}
		differ := 0
		for j := range name {
			differ += bits.OnesCount8(name[j] ^ t.name[j])
		}
		if differ <= 3 {
			return i
		}
	}
	return -1
}

// finish works out what is free and writes freelist and meta page.
func (m *mender) finish() error {
	next := m.meta
	next.high = m.high
	after := &pages{r: m.f, meta: next}
	after.used, after.free, after.unread = newBitset(m.high), newBitset(m.high), newBitset(m.high)
	trees, err := after.trees()
	if err != nil {
		return errors.Join(errDamagedFile, err)
	}
	for _, t := range trees {
		if t.root == 0 {
			continue
		}
		w := treeWalk{leaves: true, leaf: func(_, _ []byte, _ uint64, _ []element) {}}
		w.bad = func(_, _ []byte, _ uint64, _ int, e error) { err = e }
		after.walk(&w, t.root)
	}
	if err != nil {
		return errors.Join(errDamagedFile, err)
	}
	var free []uint64
	for id := uint64(2); id < m.high; id++ {
		if !after.used.has(id) {
			free = append(free, id)
		}
	}
	n := (pageHeader + 8*(len(free)+1) + pageSize - 1) / pageSize
	pg := page(make([]byte, n*pageSize))
	ids := pg[pageHeader:]
	if len(free) >= 0xFFFF {
		m.header(pg, m.high, freelistPage, 0xFFFF, n)
		native.PutUint64(ids, uint64(len(free)))
		ids = ids[8:]
	} else {
		m.header(pg, m.high, freelistPage, len(free), n)
	}
	for i, id := range free {
		native.PutUint64(ids[8*i:], id)
	}
	next.freelist, next.high, next.tx = m.high, m.high+uint64(n), next.tx+1
	m.write(pg, m.high)
	if m.err != nil {
		return m.err
	}
	if err := m.f.Sync(); err != nil {
		return err
	}
	if _, err := m.f.WriteAt(next.page(), int64(next.tx%2)*pageSize); err != nil {
		return err
	}
	return m.f.Sync()
}

// page is the meta page.
func (m *fileMeta) page() page {
	pg := page(make([]byte, pageSize))
	native.PutUint64(pg, m.tx%2)
	native.PutUint16(pg[8:], 0x04)
	native.PutUint32(pg[metaAt:], metaMagic)
	native.PutUint32(pg[metaAt+4:], 2)
	native.PutUint32(pg[metaAt+8:], pageSize)
	for i, v := range []uint64{m.root, m.sequence, m.freelist, m.high, m.tx} {
		native.PutUint64(pg[metaAt+16+8*i:], v)
	}
	h := fnv.New64a()
	_, _ = h.Write(pg[metaAt:metaChecksum])
	native.PutUint64(pg[metaChecksum:], h.Sum64())
	return pg
}

// rescue gives what can be used of what could not: the elements of a leaf that
// are whole, on a page of their own, or the leaves below a branch, which nothing
// points to any more. Records have checksums of their own.
func (m *mender) rescue(d *pageDamage) []leafRef {
	if refs := m.orphans(d); refs != nil || d.id < 2 || d.id >= m.meta.high || errors.Is(d.err, errPageTwice) {
		return refs // or it was never this page that was meant
	}
	pg, err := m.raw(d.id, m.alone(d.id), nil)
	if err != nil && !errors.Is(err, errPageBeyond) {
		return nil
	}
	// Another page's content in the place of this one's is none of it.
	if differ := bits.OnesCount64(pg.id() ^ d.id); differ > 3 {
		return nil
	}
	es := pg.whole(d.lo, d.hi)
	if want := keysOf[m.found[d.tree].name]; want != 0 {
		es = slices.DeleteFunc(es, func(e element) bool { return len(e.key) != want })
	}
	if len(es) == 0 || (keysOf[m.found[d.tree].name] != 0 && !m.suits(d.tree, es)) {
		return nil
	}
	return []leafRef{refOf(es, m.put(leafPage, es))}
}

// alone is how many pages from id on nothing else accounts for: those that a
// damaged page may run on into.
func (m *mender) alone(id uint64) int {
	n := 1
	for n < 4 && id+uint64(n) < m.meta.high && !m.used.has(id+uint64(n)) && (m.freelist != nil || !m.free.has(id+uint64(n))) {
		n++
	}
	return n
}

// whole gives the elements of a leaf that make sense, whatever its header says.
func (p page) whole(lo, hi []byte) []element {
	n := int(native.Uint32(p[pageHeader+4:])) / pageElement // where the first begins
	if said := p.count(); p.flags() == leafPage && pageHeader+said*pageElement <= len(p) {
		n = said
	}
	var es []element
	for i := 0; i < n && pageHeader+(i+1)*pageElement <= len(p); i++ {
		e := p.element(i)
		at := uint64(pageHeader+i*pageElement) + uint64(native.Uint32(e[4:]))
		k, v := uint64(native.Uint32(e[8:])), uint64(native.Uint32(e[12:]))
		if k == 0 || native.Uint32(e) != 0 || at < uint64(pageHeader+n*pageElement) || at+k+v > uint64(len(p)) {
			continue
		}
		el := element{key: p[at : at+k], value: p[at+k : at+k+v]}
		if bytes.Compare(el.key, lo) < 0 || (hi != nil && bytes.Compare(el.key, hi) >= 0) ||
			(len(es) > 0 && bytes.Compare(es[len(es)-1].key, el.key) >= 0) {
			continue
		}
		es = append(es, el)
	}
	return es
}

// orphans finds the leaves that were below a branch: whole ones that nothing
// points to and whose keys lie where that branch's were.
func (m *mender) orphans(d *pageDamage) []leafRef {
	if !m.freelistRead {
		return nil // stale pages would come back
	}
	if !m.sought {
		m.sought = true
		m.seekStrays()
	}
	var refs []leafRef
	var es []element
	var buf []byte
	at, _ := slices.BinarySearchFunc(m.strays, d.lo, func(r leafRef, lo []byte) int { return bytes.Compare(r.key, lo) })
	for _, r := range m.strays[at:] {
		if d.hi != nil && bytes.Compare(r.key, d.hi) >= 0 {
			break
		}
		if m.used.has(r.id) || r.id == d.id || (d.hi != nil && bytes.Compare(r.last, d.hi) >= 0) {
			continue
		}
		pg, err := m.at(r.id, buf)
		buf = pg
		if err != nil {
			continue
		}
		if es, err = pg.elements(es[:0]); err != nil || !m.suits(d.tree, es) {
			continue
		}
		refs = append(refs, r)
		for over := r.id; over <= r.id+pg.overflow(); over++ {
			m.used.set(over)
		}
	}
	return refs
}

// seekStrays looks for whole leaves that nothing points to and that are not
// free: once, as there may be as many damaged pages as there are others.
func (m *mender) seekStrays() {
	var es []element
	var buf []byte
	for id := uint64(2); id < m.meta.high; id++ {
		if m.used.has(id) || m.free.has(id) {
			continue
		}
		pg, err := m.at(id, buf)
		buf = pg
		if err != nil || pg.flags() != leafPage {
			continue
		}
		if es, err = pg.elements(es[:0]); err == nil && len(es) > 0 {
			m.strays = append(m.strays, refOf(es, id))
		}
	}
	slices.SortStableFunc(m.strays, func(a, b leafRef) int { return bytes.Compare(a.key, b.key) })
}

// kindOf is what kind of record a bucket holds.
var kindOf = map[string]byte{
	"log": kindBatch, "heads": kindHead, "index": kindChunk, "blocks": kindBatch, "checkpoint": kindCheckpoint,
}

// suits tells whether elements may be those of a tree: by how long its keys
// are, and by the kind of a record that begins among them.
func (m *mender) suits(tree int, es []element) bool {
	name := m.found[tree].name
	kind, records := kindOf[name]
	if !records {
		return len(es[0].key) == keysOf[name]
	}
	for i := range es {
		if len(es[i].key) != keysOf[name] || es[i].flags != 0 {
			return false
		}
		first := bytes.HasSuffix(es[i].key, []byte{0, 0})
		if first && (len(es[i].value) < envelopeBytes || es[i].value[1] != kind) {
			return false
		}
	}
	return true
}

// keysOf is how long a bucket's keys are.
var keysOf = map[string]int{
	"things": 4, "docs": 4, "forgotten": 4, "log": 8 + pieceNoBytes, "heads": 8 + pieceNoBytes,
	"index": 12 + pieceNoBytes, "blocks": 12 + pieceNoBytes, "checkpoint": 12 + pieceNoBytes,
}
