package wire

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/vmihailenco/msgpack/v5"

	"tbhist/thing"
)

// Decoder decodes input messages. It is reused from message to message, by
// one goroutine at a time.
//
// A message may break several rules at once; the reason reported is the
// first of these that holds:
//
//	too_large, empty, too_deep, not_utf8, not_json / not_msgpack, ext,
//	number_length, shape, type, ns_missing, ns, data_missing, ts_type,
//	ts_range
//
// except that msgpack is walked once, front to back, so that among
// too_deep, not_utf8, not_msgpack, ext and a key that is an array or a map
// (shape) the one that stands first in the datagram is reported. Depth,
// number length and UTF-8 hold for members that are dropped, too; an ext in
// a dropped member is dropped with it.
type Decoder struct {
	limits Limits

	// JSON.
	src  bytes.Buffer // over the frame being decoded
	dec  *jsontext.Decoder
	long bool // a number literal is over limits.MaxNumber
	mended
	scratch []byte
	names   []seenName // of the scanner

	// msgpack.
	rd  bytes.Reader // over the datagram being decoded
	mp  *msgpack.Decoder
	raw []byte // what rd reads
}

// Scratch memory that has grown beyond this is given back, since decoders
// live as long as connections.
const keepScratch = 64 << 10

// NewDecoder makes a decoder.
func NewDecoder(l Limits) *Decoder {
	return &Decoder{limits: l.withDefaults(), dec: new(jsontext.Decoder), mp: msgpack.NewDecoder(nil)}
}

// span is a stretch of the document being decoded. The zero span is a
// member that is not there.
type span struct{ lo, hi int }

func (s span) of(doc []byte) []byte { return doc[s.lo:s.hi] }
func (s span) there() bool          { return s.hi > 0 }

// members are the raw values of the members that count, the last of each.
type members struct {
	typ, ns, data, ts, doc span
	list                   bool // the list form: no type
}

// JSON decodes one frame, appends what out refers to to arena, and gives
// the longer arena. The error is a shared *thing.Refusal; arena comes back
// as it was then, and out is not to be used. Whatever is between the length
// and the capacity of arena may be overwritten.
//
// strict has the say in all things. What fast takes is what strict would
// take, with the same outcome.
func (d *Decoder) JSON(arena, frame []byte, out *Draft) ([]byte, error) {
	*out = Draft{}
	if len(frame) > d.limits.MaxBytes {
		return arena, refusals[thing.ReasonTooLarge]
	}
	if len(frame) == 0 {
		return arena, refusals[thing.ReasonEmpty]
	}
	arena, ok := d.fast(arena, frame, out)
	if ok {
		return arena, nil
	}
	*out = Draft{}
	return d.strict(arena, frame, out)
}

// strict decodes a frame of a size that is taken.
//
// jsontext in its strict mode decides on grammar and UTF-8, and finds names
// that occur twice. What it refuses is looked at again by mend: Python's
// bare words NaN, Infinity and -Infinity, lone surrogate escapes and double
// names are taken here and normalised.
func (d *Decoder) strict(arena, frame []byte, out *Draft) ([]byte, error) {
	if d.tooDeep(frame) {
		return arena, refusals[thing.ReasonTooDeep]
	}
	if len(frame) > keepScratch {
		// jsontext keeps what it grew for names.
		defer func() { d.dec = new(jsontext.Decoder) }()
	}
	var m members
	d.long = false
	doc, unique := frame, true
	reason, err := d.split(frame, &m)
	if err != nil {
		if !d.mend(frame) {
			return arena, refusals[thing.ReasonNotUTF8]
		}
		defer d.mended.release()
		m, d.long = members{}, false
		doc, unique = d.mended.doc, false
		if reason, err = d.split(doc, &m, jsontext.AllowDuplicateNames(true)); err != nil {
			return arena, refusals[thing.ReasonNotJSON]
		}
	}
	start := len(arena)
	arena, reason = d.draft(arena, doc, &m, reason, unique, out)
	if d.long {
		reason = thing.ReasonNumberLength
	}
	if reason != accepted {
		return arena[:start], refusals[reason]
	}
	return arena, nil
}

// accepted stands for no reason to refuse.
const accepted = thing.Reasons

// split finds the members of a document in doc, which must be one JSON
// document; the error is jsontext's. reason is ReasonShape for a document
// of another shape. Values that will not be looked at again are checked for
// long numbers here.
func (d *Decoder) split(doc []byte, m *members, opts ...jsontext.Options) (reason thing.Reason, err error) {
	d.src = *bytes.NewBuffer(doc)
	d.dec.Reset(&d.src, opts...)
	reason = accepted
	switch d.dec.PeekKind() {
	case jsontext.KindBeginObject:
		err = d.splitObject(doc, m)
	case jsontext.KindBeginArray:
		m.list = true
		var n int
		if n, err = d.splitList(doc, m); n != 4 {
			reason = thing.ReasonShape
		}
	default:
		reason = thing.ReasonShape
		_, err = d.value(doc)
	}
	if err == nil && len(bytes.TrimLeft(doc[d.dec.InputOffset():], " \t\r\n")) > 0 {
		err = errTrailing
	}
	return reason, err
}

// errTrailing: something follows the document.
var errTrailing = errors.New("something follows the document")

// value reads the next value. Its place is taken from the offset, since
// jsontext promises its slices only until the next read.
func (d *Decoder) value(doc []byte) (span, error) {
	v, err := d.dec.ReadValue()
	if err != nil {
		return span{}, err
	}
	hi := int(d.dec.InputOffset())
	return span{hi - len(v), hi}, nil
}

func (d *Decoder) splitObject(doc []byte, m *members) error {
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for d.dec.PeekKind() != jsontext.KindEndObject {
		name, err := d.dec.ReadValue()
		if err != nil {
			return err
		}
		slot := m.slot(name)
		v, err := d.value(doc)
		if err != nil {
			return err
		}
		if slot == nil {
			d.checkNumbers(v.of(doc))
			continue
		}
		d.checkNumbers(slot.of(doc)) // what is replaced is not looked at again
		*slot = v
	}
	_, err := d.dec.ReadToken()
	return err
}

// slot gives the place for the value of the member with this quoted name,
// nil for one that does not count.
func (m *members) slot(quoted []byte) *span {
	switch string(quoted) {
	case `"type"`:
		return &m.typ
	case `"ns"`:
		return &m.ns
	case `"data"`:
		return &m.data
	case `"ts"`:
		return &m.ts
	case `"documentation_url"`:
		return &m.doc
	}
	if bytes.IndexByte(quoted, '\\') < 0 || len(quoted) > 128 {
		return nil
	}
	var b [128]byte
	name, err := jsontext.AppendUnquote(b[:1], quoted)
	if err != nil || bytes.IndexByte(name, '\\') >= 0 {
		return nil
	}
	name[0] = '"'
	return m.slot(append(name, '"'))
}

func (d *Decoder) splitList(doc []byte, m *members) (n int, err error) {
	if _, err := d.dec.ReadToken(); err != nil {
		return 0, err
	}
	for ; d.dec.PeekKind() != jsontext.KindEndArray; n++ {
		v, err := d.value(doc)
		if err != nil {
			return 0, err
		}
		switch n {
		case 0:
			m.ns = v
		case 1:
			m.ts = v
		case 2:
			m.data = v
		case 3:
			m.doc = v
		default:
			d.checkNumbers(v.of(doc))
		}
	}
	_, err = d.dec.ReadToken()
	return n, err
}

// draft makes the draft of members found in doc. reason is what is known
// already; numbers are looked at all the same, since a long one comes
// first. unique tells that no object in doc has two members of one name.
func (d *Decoder) draft(arena, doc []byte, m *members, reason thing.Reason, unique bool, out *Draft) ([]byte, thing.Reason) {
	refuse := func(r thing.Reason) {
		if reason == accepted {
			reason = r
		}
	}
	if !m.list {
		if typ := m.typ.of(doc); string(typ) != `"`+updateType+`"` {
			if !m.typ.there() || typ[0] != '"' || string(d.unquote(typ)) != updateType {
				refuse(thing.ReasonType)
			}
			d.checkNumbers(typ)
		}
	}
	if !m.ns.there() {
		refuse(thing.ReasonNSMissing)
	} else {
		ns := m.ns.of(doc)
		lo := len(arena)
		if ns[0] == '"' {
			arena = appendUnquoted(arena, ns)
		}
		out.NS = arena[lo:len(arena):len(arena)]
		if ns[0] != '"' || !thing.ValidName(out.NS) {
			refuse(thing.ReasonNS)
			d.checkNumbers(ns)
		}
	}
	if !m.data.there() {
		refuse(thing.ReasonDataMissing)
	} else {
		arena, out.Data = d.keep(arena, m.data.of(doc), unique, out)
		out.Surrogates += d.mended.lone.within(m.data)
	}
	if m.ts.there() {
		if r := d.ts(m.ts.of(doc), out); r != accepted {
			refuse(r)
			d.checkNumbers(m.ts.of(doc))
		}
	}
	if m.doc.there() {
		lo := len(arena)
		arena, out.Doc = d.keep(arena, m.doc.of(doc), unique, out)
		out.Surrogates += d.mended.lone.within(m.doc)
		if string(out.Doc) == "null" {
			arena, out.Doc = arena[:lo], nil
		}
	}
	return arena, reason
}

// ts reads the time of a message.
func (d *Decoder) ts(v []byte, out *Draft) thing.Reason {
	switch c := v[0]; {
	case c == 'n':
		return accepted
	case c != '-' && (c < '0' || c > '9'):
		return thing.ReasonTSType
	case len(v) > d.limits.MaxNumber:
		return thing.ReasonNumberLength
	}
	f, ok := parseSeconds(v)
	if !ok {
		return thing.ReasonTSRange
	}
	out.TS, out.HasTS = f, true
	return accepted
}

// keep appends a value in its compact form to arena.
func (d *Decoder) keep(arena, v []byte, unique bool, out *Draft) ([]byte, []byte) {
	lo := len(arena)
	arena = d.compact(arena, v, &out.Nonfinite)
	if !unique {
		arena = uniqueNames(arena, lo)
	}
	return arena, arena[lo:len(arena):len(arena)]
}

// checkNumbers looks for long numbers in a value that is not kept.
func (d *Decoder) checkNumbers(v []byte) {
	if len(v) > d.limits.MaxNumber && !d.long {
		var n int
		d.scratch = d.compact(d.scratch[:0], v, &n)
		if cap(d.scratch) > keepScratch {
			d.scratch = nil
		}
	}
}

// unquote gives the text of a quoted JSON string, in scratch memory.
func (d *Decoder) unquote(quoted []byte) []byte {
	if len(quoted) > keepScratch {
		return nil // longer than anything it is compared with
	}
	d.scratch = appendUnquoted(d.scratch[:0], quoted)
	return d.scratch
}

// appendUnquoted appends the text of a valid JSON string.
func appendUnquoted(dst, quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return append(dst, quoted[1:len(quoted)-1]...)
	}
	dst, _ = jsontext.AppendUnquote(dst, quoted) // jsontext accepted it
	return dst
}
