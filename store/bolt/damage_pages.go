package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// bbolt trusts its pages: a damaged one ends in a panic, in a loop without
// end, or in a page that is written to though it is in use. What follows reads
// them without bbolt, and trusts nothing. bbolt's numbers stand in the byte
// order of the machine.
const (
	pageHeader  = 16 // id 8, flags 2, count 2, overflow 4
	pageElement = 16 // branch: pos 4, ksize 4, child 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	pageBucket  = 16 // of a bucket in its parent: root 8, sequence 8, then its page if that is 0

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	// maxHeight bounds a tree: each level has two pages for one above it.
	maxHeight = 24
	// maxPageRun bounds how long one page may be.
	maxPageRun = 1 << 16
)

var native = binary.NativeEndian

// fileMeta is what a meta page says.
type fileMeta struct {
	root, sequence, freelist uint64
	// high is the first page that was never given out.
	high, tx uint64
}

// parseMeta reads a meta page. ok is false for a damaged one, and one that is
// none.
func parseMeta(page []byte) (m fileMeta, ok bool) {
	tx, ok := metaID(page)
	if !ok || native.Uint32(page[metaAt+8:]) != pageSize {
		return m, false
	}
	m = fileMeta{
		root: native.Uint64(page[metaAt+16:]), sequence: native.Uint64(page[metaAt+24:]),
		freelist: native.Uint64(page[metaAt+32:]), high: native.Uint64(page[metaAt+40:]), tx: tx,
	}
	return m, m.high < 1<<40
}

// bitset is a set of page numbers.
type bitset []uint64

func newBitset(n uint64) bitset     { return make(bitset, n/64+1) }
func (b bitset) has(id uint64) bool { return b[id/64]&(1<<(id%64)) != 0 }
func (b bitset) set(id uint64)      { b[id/64] |= 1 << (id % 64) }

func (b bitset) clear(id uint64) { b[id/64] &^= 1 << (id % 64) }

// page is one page with what it runs on into.
type page []byte

func (p page) id() uint64       { return native.Uint64(p) }
func (p page) flags() uint16    { return native.Uint16(p[8:]) }
func (p page) count() int       { return int(native.Uint16(p[10:])) }
func (p page) overflow() uint64 { return uint64(native.Uint32(p[12:])) }
func (p page) element(i int) []byte {
	at := pageHeader + i*pageElement
	return p[at : at+pageElement]
}

// element is one of a page. child is meant of a branch, the rest of a leaf.
type element struct {
	key, value []byte
	child      uint64
	flags      uint32
}

var (
	errPageBeyond  = errors.New("lies beyond the end of the file")
	errPageHeader  = errors.New("its header is damaged")
	errPageElement = errors.New("its elements do not follow one another")
	errPageOrder   = errors.New("its keys are out of order")
	errPageTwice   = errors.New("is pointed to twice")
)

// elements checks those of a branch or leaf page and appends them to es. bbolt
// writes one behind another, so that each says where the next begins.
func (p page) elements(es []element) ([]element, error) {
	n := p.count()
	next := pageHeader + n*pageElement
	if next > len(p) {
		return es, errPageHeader
	}
	branch := p.flags() == branchPage
	for i := range n {
		e, begins := p.element(i), pageHeader+i*pageElement
		var pos, ksize, vsize uint32
		var el element
		if branch {
			pos, ksize, el.child = native.Uint32(e), native.Uint32(e[4:]), native.Uint64(e[8:])
		} else {
			el.flags, pos, ksize, vsize = native.Uint32(e), native.Uint32(e[4:]), native.Uint32(e[8:]), native.Uint32(e[12:])
		}
		if uint64(begins)+uint64(pos) != uint64(next) || ksize == 0 || uint64(next)+uint64(ksize)+uint64(vsize) > uint64(len(p)) {
			return es, errPageElement
		}
		el.key = p[next : next+int(ksize)]
		el.value = p[next+int(ksize) : next+int(ksize)+int(vsize)]
		next += int(ksize) + int(vsize)
		if i > 0 && bytes.Compare(es[len(es)-1].key, el.key) >= 0 {
			return es, errPageOrder
		}
		es = append(es, el)
	}
	if (next-1)/pageSize != int(p.overflow()) {
		return es, errPageHeader
	}
	return es, nil
}

// within tells whether keys in order lie in lo <= key < hi; a nil hi is no
// bound.
func within(es []element, lo, hi []byte) error {
	if len(es) == 0 {
		return nil
	}
	if bytes.Compare(es[0].key, lo) < 0 || (hi != nil && bytes.Compare(es[len(es)-1].key, hi) >= 0) {
		return errPageOrder
	}
	return nil
}

// pages reads the pages of one file as its newest meta page has them.
type pages struct {
	r    io.ReaderAt
	meta fileMeta
	// used are the pages that something points to, free those of the freelist.
	used, free bitset
	// unread are leaves that are pointed to and were not read.
	unread bitset
	levels [maxHeight + 1]openLevel
	// read counts bytes, for progress.
	read int64
	// spoiled tells that one of the two meta pages is damaged: the newest commit
	// may be the one it was of.
	spoiled bool
}

// openLevel is the page that a walk has open at one level of a tree.
type openLevel struct {
	page     []byte
	elements []element
}

// openPages reads the meta pages.
func openPages(r io.ReaderAt) (*pages, error) {
	var newest fileMeta
	found, whole := false, 0
	var buf [pageSize]byte
	for i := range int64(2) {
		if _, err := r.ReadAt(buf[:], i*pageSize); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if m, ok := parseMeta(buf[:]); ok {
			if whole++; !found || m.tx > newest.tx {
				newest, found = m, true
			}
		}
		clear(buf[:])
	}
	if !found {
		return nil, errNoMeta
	}
	p := &pages{r: r, meta: newest, spoiled: whole < 2}
	p.used, p.free, p.unread = newBitset(newest.high), newBitset(newest.high), newBitset(newest.high)
	return p, nil
}

var errNoMeta = errors.New("neither meta page is whole")

// at reads page id into buf, which it uses again, and checks its header.
func (p *pages) at(id uint64, buf []byte) (page, error) {
	if id < 2 || id >= p.meta.high {
		return buf, errPageBeyond
	}
	raw, err := p.raw(id, 1, buf)
	if err != nil {
		return raw, err
	}
	pg := page(raw)
	if pg.id() != id {
		return pg, errPageHeader
	}
	switch pg.flags() {
	case branchPage, leafPage, freelistPage:
	default:
		return pg, errPageHeader
	}
	more := pg.overflow()
	if more == 0 {
		return pg, nil
	}
	if more >= maxPageRun || id+more >= p.meta.high {
		return pg, errPageHeader
	}
	return p.raw(id, int(more)+1, raw)
}

// raw reads n pages from id on.
func (p *pages) raw(id uint64, n int, buf []byte) (page, error) {
	n *= pageSize
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	got, err := p.r.ReadAt(buf, int64(id)*pageSize)
	p.read += int64(got)
	if errors.Is(err, io.EOF) {
		clear(buf[got:])
		return buf, errPageBeyond
	}
	return buf, err
}

// readFreelist takes in which pages are free. bbolt would take memory for as
// many as the page says.
func (p *pages) readFreelist() error {
	pg, err := p.at(p.meta.freelist, nil)
	if err != nil {
		return err
	}
	if pg.flags() != freelistPage {
		return errPageHeader
	}
	for id := pg.id(); id <= pg.id()+pg.overflow(); id++ {
		if p.used.has(id) {
			return errPageTwice
		}
		p.used.set(id)
	}
	ids, n := pg[pageHeader:], uint64(pg.count())
	if n == 0xFFFF {
		n, ids = native.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 {
		return errPageHeader
	}
	last := uint64(1)
	for i := range n {
		id := native.Uint64(ids[8*i:])
		if id <= last || id >= p.meta.high {
			return errPageOrder
		}
		p.free.set(id)
		last = id
	}
	return nil
}

// settleFree holds what is free against what is used. Leaves that were not
// read may run on: what nothing else accounts for tells which.
func (p *pages) settleFree() error {
	for i := range p.free {
		if both := p.free[i] & p.used[i]; both != 0 {
			return fmt.Errorf("page %d is in use, and free", i*64+bits.TrailingZeros64(both))
		}
	}
	var head [pageHeader]byte
	for id := uint64(2); id < p.meta.high; id++ {
		if p.free.has(id) || p.used.has(id) {
			continue
		}
		last := id
		for last+1 < p.meta.high && !p.free.has(last+1) && !p.used.has(last+1) {
			last++
		}
		lost := fmt.Errorf("page %d is neither in use nor free", id)
		if !p.unread.has(id - 1) {
			return lost
		}
		if _, err := p.r.ReadAt(head[:], int64(id-1)*pageSize); err != nil {
			return lost
		}
		if pg := page(head[:]); pg.id() != id-1 || pg.flags() != leafPage || pg.overflow() != last-id+1 {
			return lost
		}
		id = last
	}
	return nil
}
