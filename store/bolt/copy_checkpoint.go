package bolt

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"
)

// parts are the Things as they were when a copy began, in the raw form of a
// checkpoint's parts.
type parts struct {
	raw [][]byte // compressed with S2 once squeezed
	// things counts the Things in them, bytes is their size, compressed.
	things uint64
	bytes  int64
}

// take takes all Things down. Under evicting and mu.
func (p *parts) take(db *DB, rings []*ring) {
	for next := 0; next < len(rings); {
		var part []byte
		var n int
		part, n, next = db.appendPart(nil, rings, next)
		if n == 0 {
			break
		}
		p.raw = append(p.raw, part)
		p.things += uint64(n)
	}
}

// squeeze makes them smaller: they stay in memory while the copy is made.
func (p *parts) squeeze() {
	for i, raw := range p.raw {
		p.raw[i] = s2.Encode(nil, raw)
		p.bytes += int64(len(p.raw[i]))
	}
}

// put hands on a checkpoint at the copy's head: with what it lacks noted as
// lost, so that it tells of that no less than the history it was made of.
func (p *parts) put(c *copying) error {
	var raw, out []byte
	for i, squeezed := range p.raw {
		var err error
		if raw, err = s2.Decode(raw, squeezed); err != nil {
			return err
		}
		f := fields{b: raw}
		out = append(out[:0], f.byte())
		n := f.uv()
		out = binary.AppendUvarint(out, n)
		for range n {
			l := f.ring(c.docs)
			l.lost = c.lostOf(l.id, l.lost)
			r := &ring{id: l.id}
			l.into(r)
			out = c.db.appendRing(out, r)
		}
		if f.bad || len(f.b) > 0 {
			return errCheckpoint
		}
		key := subKey(c.head, uint32(i)+1)
		if err := putRecord(c.to, bucketCheckpoint, key, c.codecs.envelope(nil, key, kindCheckpoint, codecZstd, out)); err != nil {
			return err
		}
		p.raw[i] = nil
		if err := c.stopped(); err != nil {
			return err
		}
	}
	head := checkpointHead(uint32(len(p.raw)), p.things, c.evicted)
	key := subKey(c.head, 0)
	return putRecord(c.to, bucketCheckpoint, key, c.codecs.envelope(nil, key, kindCheckpoint, codecRaw, head))
}
