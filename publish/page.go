package publish

import "sync"

// pieceBytes is the size of the pieces that long pages are made of. A page of
// the usual size, 256 KiB, fits in one.
const pieceBytes = 260 << 10

var pagePieces = sync.Pool{New: func() any { return new([pieceBytes]byte) }}

// page is the body of an answer while it is filled and sent: lines, each with
// its newline. Long ones are made of pieces that are used again, and so
// neither grow by copying nor leave garbage; short ones, of which there may
// be more than those have room for, take what they need. Its room is what
// answers books.
type page struct {
	room   int
	pieces [][]byte // the last is being filled
	lent   []*[pieceBytes]byte
	bytes  int
	count  uint64
	full   bool
}

// begin gives what the next line of about so many bytes is to be appended to.
func (p *page) begin(about int) []byte {
	about++ // the newline
	last := len(p.pieces) - 1
	switch {
	case last >= 0 && (p.room < pieceBytes/2 || about <= cap(p.pieces[last])-len(p.pieces[last])):
		return p.pieces[last]
	case p.room < pieceBytes/2:
		p.pieces = append(p.pieces, nil)
	case about > pieceBytes/4: // it could leave much of a piece empty
		p.pieces = append(p.pieces, make([]byte, 0, about))
	default:
		piece := pagePieces.Get().(*[pieceBytes]byte) // nothing else is in there
		p.lent = append(p.lent, piece)
		p.pieces = append(p.pieces, piece[:0])
	}
	return p.pieces[last+1]
}

// end takes what begin gave back with a line appended; it is refused, and the
// page full, when there is no more room. The first line always fits.
func (p *page) end(dst []byte) bool {
	dst = append(dst, '\n')
	n := len(dst) - len(p.pieces[len(p.pieces)-1])
	if p.count > 0 && p.bytes+n > p.room {
		p.full = true
		p.drop()
		return false
	}
	p.bytes += n
	p.count++
	p.keep(dst)
	return true
}

// keep takes what begin gave back as it is.
func (p *page) keep(dst []byte) { p.pieces[len(p.pieces)-1] = dst }

// drop gives the last piece back if there is nothing in it.
func (p *page) drop() {
	last := len(p.pieces) - 1
	piece := p.pieces[last]
	if len(piece) > 0 {
		return
	}
	p.pieces = p.pieces[:last]
	n := len(p.lent) - 1
	if n >= 0 && cap(piece) == pieceBytes && &piece[:1][0] == &p.lent[n][0] {
		pagePieces.Put(p.lent[n])
		p.lent = p.lent[:n]
	}
}

// held is how much memory the page takes: more than its room where one line
// is longer than that.
func (p *page) held() int {
	n := 0
	for _, piece := range p.pieces {
		n += cap(piece)
	}
	return n
}

// release gives the pieces back. Nothing of the page may be in use.
func (p *page) release() {
	for _, piece := range p.lent {
		pagePieces.Put(piece)
	}
	p.pieces, p.lent = nil, nil
}
