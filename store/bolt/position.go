package bolt

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/klauspost/compress/s2"

	"tbhist/store"
)

// position is where a question goes on: what a page's Next carries.
type position struct {
	first   bool   // nothing was read yet
	after   uint64 // everything up to here was looked at
	given   uint64 // updates handed on so far
	evicted uint64 // what the Things asked for had evicted, ever
	// With Query.Last: the head of the first page, and per Thing the
	// thing_seq from which on its updates are among the newest so many.
	upTo uint64
	from map[uint32]uint64
}

const positionVersion = 1

// position reads where q goes on.
func (db *DB) position(q store.Query) (*position, error) {
	if q.Resume == nil {
		return &position{first: true, after: q.After}, nil
	}
	db.mu.RLock()
	things := len(db.rings)
	db.mu.RUnlock()
	p, ok := parsePosition(q.Resume, db.epoch, things)
	if !ok || (q.Last > 0) != (p.upTo != 0) {
		return nil, store.ErrBadResume
	}
	return p, nil
}

func (p *position) bound(id uint32) uint64 { return p.from[id] }

// append encodes the position: version, epoch, numbers and bounds (in S2
// block format, since neighbours are alike), crc32c.
func (p *position) append(epoch string) []byte {
	b := append([]byte{positionVersion}, epoch...)
	b = binary.AppendUvarint(b, p.after)
	b = binary.AppendUvarint(b, p.given)
	b = binary.AppendUvarint(b, p.evicted)
	b = binary.AppendUvarint(b, p.upTo)
	var bounds []byte
	ids := make([]uint32, 0, len(p.from))
	for id := range p.from {
		ids = append(ids, id)
	}
	var last uint32
	for _, id := range newSelection(ids).ids {
		bounds = binary.AppendUvarint(bounds, uint64(id-last))
		bounds = binary.AppendUvarint(bounds, p.from[id])
		last = id
	}
	b = append(b, s2.Encode(nil, bounds)...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parsePosition is append's inverse. Anybody can make up such bytes, and few
// of them can stand for many bounds: more than there are Things are none.
func parsePosition(b []byte, epoch string, things int) (*position, bool) {
	n := len(b) - 4
	if n < 1+len(epoch) || b[0] != positionVersion || string(b[1:1+len(epoch)]) != epoch ||
		crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return nil, false
	}
	f := fields{b: b[1+len(epoch) : n]}
	p := &position{after: f.uv(), given: f.uv(), evicted: f.uv(), upTo: f.uv()}
	if size, err := s2.DecodedLen(f.b); f.bad || err != nil || size > things*2*binary.MaxVarintLen64 {
		return nil, false
	}
	bounds, err := s2.Decode(nil, f.b)
	if err != nil {
		return nil, false
	}
	p.from = make(map[uint32]uint64)
	f = fields{b: bounds}
	var id uint64
	for first := true; len(f.b) > 0; first = false {
		step := f.uv()
		if f.bad || step >= uint64(things) || (step == 0 && !first) {
			return nil, false
		}
		if id += step; id >= uint64(things) {
			return nil, false
		}
		p.from[uint32(id)] = f.uv()
	}
	return p, !f.bad
}
