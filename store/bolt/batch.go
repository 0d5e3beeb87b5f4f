package bolt

import (
	"encoding/binary"
	"errors"
	"math"

	"tbhist/thing"
)

// entry is one update as the file has it: Thing and documentation URL by
// their ids.
type entry struct {
	seq, thingSeq uint64
	received      thing.Micros
	ts            float64
	id            uint32
	doc           uint32 // docNull, docInline, or an id + docIDs
	inline        []byte // if doc is docInline
	data          []byte
}

const (
	docNull   = 0
	docInline = 1
	docIDs    = 2

	batchVersion = 1
)

// tsScale: a ts is counted in units of 2^-22 s (docs/FORMAT.md, Batch).
const tsScale = 1 << 22

// maxTSUnits bounds both the ts and the received time that are counted, so
// that their difference fits its varint.
const maxTSUnits = 1 << 59

func tsUnits(ts float64) (int64, bool) {
	scaled := ts * tsScale
	if !(scaled > -maxTSUnits && scaled < maxTSUnits) || scaled != math.Trunc(scaled) ||
		(scaled == 0 && math.Signbit(ts)) {
		return 0, false
	}
	return int64(scaled), true
}

func receivedUnits(r thing.Micros) (int64, bool) {
	s, us := int64(r)/1e6, int64(r)%1e6
	if us < 0 {
		s, us = s-1, us+1e6
	}
	if s >= maxTSUnits/tsScale || s <= -maxTSUnits/tsScale {
		return 0, false
	}
	return s*tsScale + us*tsScale/1e6, true
}

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// appendBatch encodes entries, which are in the order of seq, as the raw
// form of a batch.
func appendBatch(dst []byte, es []entry) []byte {
	dst = append(dst, batchVersion)
	dst = binary.AppendUvarint(dst, uint64(len(es)))
	dst = binary.AppendUvarint(dst, es[0].seq)
	gaps := es[len(es)-1].seq-es[0].seq != uint64(len(es)-1)
	if gaps {
		dst = append(dst, 1)
		for i := 1; i < len(es); i++ {
			dst = binary.AppendUvarint(dst, es[i].seq-es[i-1].seq-1)
		}
	} else {
		dst = append(dst, 0)
	}
	for i := range es {
		dst = binary.AppendUvarint(dst, uint64(es[i].id))
	}
	var n uint64
	for i := range es {
		dst = binary.AppendUvarint(dst, zigzag(int64(es[i].thingSeq-n)))
		n = es[i].thingSeq
	}
	var r thing.Micros
	for i := range es {
		dst = binary.AppendUvarint(dst, zigzag(int64(es[i].received-r)))
		r = es[i].received
	}
	rawTS := false
	for i := range es {
		units, ok := tsUnits(es[i].ts)
		ref, inRange := receivedUnits(es[i].received)
		if ok && inRange {
			dst = binary.AppendUvarint(dst, zigzag(units-ref)<<1)
		} else {
			dst = append(dst, 1)
			rawTS = true
		}
	}
	inline := false
	for i := range es {
		dst = binary.AppendUvarint(dst, uint64(es[i].doc))
		inline = inline || es[i].doc == docInline
	}
	for i := range es {
		dst = binary.AppendUvarint(dst, uint64(len(es[i].data)))
	}
	if inline {
		for i := range es {
			if es[i].doc == docInline {
				dst = binary.AppendUvarint(dst, uint64(len(es[i].inline)))
			}
		}
	}
	if rawTS {
		for i := range es {
			_, ok := tsUnits(es[i].ts)
			if _, inRange := receivedUnits(es[i].received); !ok || !inRange {
				dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(es[i].ts))
			}
		}
	}
	if inline {
		for i := range es {
			dst = append(dst, es[i].inline...)
		}
	}
	for i := range es {
		dst = append(dst, es[i].data...)
	}
	return dst
}

var errBatch = errors.New("not a batch of format 1")

// fields reads the parts of a raw record; bad once something did not fit.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uv() uint64 {
	// One byte is the common case.
	if len(f.b) > 0 && f.b[0] < 0x80 {
		v := f.b[0]
		f.b = f.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) zz() int64 { return unzigzag(f.uv()) }

func (f *fields) byte() byte {
	if len(f.b) == 0 {
		f.bad = true
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

func (f *fields) f64() float64 {
	if len(f.b) < 8 {
		f.bad, f.b = true, nil
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(f.b))
	f.b = f.b[8:]
	return v
}

// take gives the next n bytes, without room to append.
func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

// decodeBatch decodes raw into es, which it uses again. data and inline
// point into raw.
func decodeBatch(raw []byte, es []entry) ([]entry, error) {
	f := fields{b: raw}
	version, n := f.byte(), f.uv()
	// Each update takes a byte of six columns at least.
	if version != batchVersion || n == 0 || n > uint64(len(raw))/6 {
		return nil, errBatch
	}
	if uint64(cap(es)) < n {
		es = make([]entry, n)
	}
	es = es[:n]
	seq := f.uv()
	es[0].seq = seq
	switch gaps := f.byte(); gaps {
	case 0:
		for i := range es {
			es[i].seq = seq + uint64(i)
		}
	case 1:
		for i := 1; i < len(es); i++ {
			seq += f.uv() + 1
			es[i].seq = seq
		}
	default:
		return nil, errBatch
	}
	for i := range es {
		id := f.uv()
		if id > math.MaxUint32 {
			return nil, errBatch
		}
		es[i].id = uint32(id)
	}
	var k uint64
	for i := range es {
		k += uint64(f.zz())
		es[i].thingSeq = k
	}
	var r int64
	for i := range es {
		r += f.zz()
		es[i].received = thing.Micros(r)
	}
	rawTS := false
	for i := range es {
		v := f.uv()
		if v&1 != 0 {
			rawTS = true
			es[i].ts = math.NaN() // until its bits are read below
			continue
		}
		ref, _ := receivedUnits(es[i].received)
		es[i].ts = float64(ref+unzigzag(v>>1)) / tsScale
	}
	inline := false
	for i := range es {
		es[i].doc = uint32(f.uv())
		es[i].inline = nil
		inline = inline || es[i].doc == docInline
	}
	// The lengths are read twice: once to stand before the columns behind
	// them, once to cut the data.
	lengths := f
	for range es {
		f.uv()
	}
	docLengths := f
	if inline {
		for i := range es {
			if es[i].doc == docInline {
				f.uv()
			}
		}
	}
	if rawTS {
		for i := range es {
			if math.IsNaN(es[i].ts) {
				es[i].ts = f.f64()
			}
		}
	}
	if inline {
		for i := range es {
			if es[i].doc == docInline {
				es[i].inline = f.take(docLengths.uv())
			}
		}
	}
	for i := range es {
		es[i].data = f.take(lengths.uv())
	}
	if f.bad || len(f.b) != 0 {
		return nil, errBatch
	}
	return es, nil
}
