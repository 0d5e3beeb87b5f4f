package wire

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"tbhist/thing"
)

// The kinds of a msgpack value, by its first byte.
func isMap(c byte) bool {
	return msgpcode.IsFixedMap(c) || c == msgpcode.Map16 || c == msgpcode.Map32
}

func isArray(c byte) bool {
	return msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32
}

func isString(c byte) bool { return msgpcode.IsString(c) }
func isFloat(c byte) bool  { return c == msgpcode.Float || c == msgpcode.Double }

func isUint(c byte) bool {
	return c <= msgpcode.PosFixedNumHigh || c >= msgpcode.Uint8 && c <= msgpcode.Uint64
}

func isInt(c byte) bool {
	return c >= msgpcode.NegFixedNumLow || c >= msgpcode.Int8 && c <= msgpcode.Int64
}

// peek gives the first byte of the next value.
func (d *Decoder) peek() (byte, thing.Reason) {
	n := d.rd.Len()
	if n == 0 {
		return 0, thing.ReasonNotMsgpack
	}
	return d.raw[len(d.raw)-n], accepted
}

// take gives the next n bytes of the datagram; n comes from a header.
func (d *Decoder) take(n int) ([]byte, thing.Reason) {
	left := d.rd.Len()
	if n < 0 || n > left { // < 0: over 2 GiB on a 32-bit machine
		return nil, thing.ReasonNotMsgpack
	}
	at := len(d.raw) - left
	if _, err := d.rd.Seek(int64(n), io.SeekCurrent); err != nil {
		return nil, thing.ReasonNotMsgpack
	}
	return d.raw[at : at+n], accepted
}

// text reads a string.
func (d *Decoder) text() ([]byte, thing.Reason) {
	b, reason := d.bytes()
	if reason == accepted && !utf8.Valid(b) {
		return nil, thing.ReasonNotUTF8
	}
	return b, reason
}

// bytes reads a string or bin.
func (d *Decoder) bytes() ([]byte, thing.Reason) {
	n, err := d.mp.DecodeBytesLen()
	if err != nil {
		return nil, thing.ReasonNotMsgpack
	}
	return d.take(n)
}

// mapLen reads the header of a map. No more members are believed in than
// the datagram has room for.
func (d *Decoder) mapLen() (int, thing.Reason) {
	n, err := d.mp.DecodeMapLen()
	if err != nil || n < 0 || n > d.rd.Len()/2 {
		return 0, thing.ReasonNotMsgpack
	}
	return n, accepted
}

// arrayLen reads the header of an array.
func (d *Decoder) arrayLen() (int, thing.Reason) {
	n, err := d.mp.DecodeArrayLen()
	if err != nil || n < 0 || n > d.rd.Len() {
		return 0, thing.ReasonNotMsgpack
	}
	return n, accepted
}

// timestamp reads an extension: seconds since 1970 if it is a timestamp.
// ok is false, and the reason ReasonExt, for any other.
func (d *Decoder) timestamp() (seconds float64, ok bool, _ thing.Reason) {
	id, n, err := d.mp.DecodeExtHeader()
	if err != nil {
		return 0, false, thing.ReasonNotMsgpack
	}
	b, reason := d.take(n)
	if reason != accepted {
		return 0, false, reason
	}
	var sec int64
	var nano uint32
	switch {
	case id != -1:
		return 0, false, thing.ReasonExt
	case n == 4:
		sec = int64(binary.BigEndian.Uint32(b))
	case n == 8:
		v := binary.BigEndian.Uint64(b)
		sec, nano = int64(v&(1<<34-1)), uint32(v>>34)
	case n == 12:
		sec, nano = int64(binary.BigEndian.Uint64(b[4:])), binary.BigEndian.Uint32(b)
	default:
		return 0, false, thing.ReasonExt
	}
	if nano > 999_999_999 {
		return 0, false, thing.ReasonExt
	}
	return float64(sec) + float64(nano)/1e9, true, accepted
}

// drop reads a value that is not kept. depth is that of a container which
// begins here.
func (d *Decoder) drop(depth int) thing.Reason {
	var n int
	var reason thing.Reason
	d.scratch, reason = d.appendValue(d.scratch[:0], depth, true, &n)
	if cap(d.scratch) > keepScratch {
		d.scratch = nil
	}
	return reason
}

// appendValue converts the next value into compact JSON. In a dropped value
// any extension will do.
func (d *Decoder) appendValue(dst []byte, depth int, dropped bool, nonfinite *int) ([]byte, thing.Reason) {
	c, reason := d.peek()
	if reason != accepted {
		return dst, reason
	}
	switch {
	case isMap(c):
		return d.appendMap(dst, depth, dropped, nonfinite)
	case isArray(c):
		return d.appendArray(dst, depth, dropped, nonfinite)
	case isString(c):
		s, reason := d.text()
		if reason != accepted {
			return dst, reason
		}
		return appendString(dst, s), accepted
	}
	return d.appendScalar(dst, c, dropped, nonfinite)
}

// appendScalar converts a value that begins with c and is neither a
// container nor a string.
func (d *Decoder) appendScalar(dst []byte, c byte, dropped bool, nonfinite *int) ([]byte, thing.Reason) {
	switch {
	case c == msgpcode.Nil:
		return d.word(dst, "null")
	case c == msgpcode.False:
		return d.word(dst, "false")
	case c == msgpcode.True:
		return d.word(dst, "true")
	case msgpcode.IsBin(c):
		b, reason := d.bytes()
		if reason != accepted {
			return dst, reason
		}
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, b)
		return append(dst, '"'), accepted
	case isUint(c):
		v, err := d.mp.DecodeUint64()
		if err != nil {
			return dst, thing.ReasonNotMsgpack
		}
		return strconv.AppendUint(dst, v, 10), accepted
	case isInt(c):
		v, err := d.mp.DecodeInt64()
		if err != nil {
			return dst, thing.ReasonNotMsgpack
		}
		return strconv.AppendInt(dst, v, 10), accepted
	case isFloat(c):
		v, err := d.mp.DecodeFloat64()
		if err != nil {
			return dst, thing.ReasonNotMsgpack
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			*nonfinite++
			return append(dst, "null"...), accepted
		}
		return appendFloat(dst, v), accepted
	case msgpcode.IsExt(c):
		v, ok, reason := d.timestamp()
		if !ok {
			if dropped && reason == thing.ReasonExt {
				return append(dst, "null"...), accepted
			}
			return dst, reason
		}
		return appendFloat(dst, v), accepted
	}
	return dst, thing.ReasonNotMsgpack // 0xc1 is never used
}

// word converts a value of one byte.
func (d *Decoder) word(dst []byte, json string) ([]byte, thing.Reason) {
	_, reason := d.take(1)
	return append(dst, json...), reason
}

func (d *Decoder) appendMap(dst []byte, depth int, dropped bool, nonfinite *int) ([]byte, thing.Reason) {
	if depth > d.limits.MaxDepth {
		return dst, thing.ReasonTooDeep
	}
	n, reason := d.mapLen()
	dst = append(dst, '{')
	for i := 0; i < n && reason == accepted; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, reason = d.key(dst, dropped); reason != accepted {
			break
		}
		dst = append(dst, ':')
		dst, reason = d.appendValue(dst, depth+1, dropped, nonfinite)
	}
	return append(dst, '}'), reason
}

func (d *Decoder) appendArray(dst []byte, depth int, dropped bool, nonfinite *int) ([]byte, thing.Reason) {
	if depth > d.limits.MaxDepth {
		return dst, thing.ReasonTooDeep
	}
	n, reason := d.arrayLen()
	dst = append(dst, '[')
	for i := 0; i < n && reason == accepted; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst, reason = d.appendValue(dst, depth+1, dropped, nonfinite)
	}
	return append(dst, ']'), reason
}

// key converts a key into a JSON string: texts stay, other scalars become
// the text of their JSON.
func (d *Decoder) key(dst []byte, dropped bool) ([]byte, thing.Reason) {
	c, reason := d.peek()
	switch {
	case reason != accepted:
		return dst, reason
	case isMap(c), isArray(c):
		return dst, thing.ReasonShape
	case isString(c):
		s, reason := d.text()
		if reason != accepted {
			return dst, reason
		}
		return appendString(dst, s), accepted
	case msgpcode.IsBin(c): // base64 comes in quotes
		return d.appendScalar(dst, c, dropped, nil)
	case isFloat(c):
		v, err := d.mp.DecodeFloat64()
		if err != nil {
			return dst, thing.ReasonNotMsgpack
		}
		return appendFloatKey(dst, v), accepted
	}
	dst = append(dst, '"')
	dst, reason = d.appendScalar(dst, c, dropped, nil)
	return append(dst, '"'), reason
}

// appendFloatKey: as Python writes a float that is a key.
func appendFloatKey(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	}
	dst = append(dst, '"')
	dst = appendFloat(dst, v)
	return append(dst, '"')
}
