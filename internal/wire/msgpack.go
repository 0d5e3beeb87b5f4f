package wire

import (
	"bytes"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"tbhist/thing"
)

// Msgpack decodes one datagram, as JSON does a frame. What follows its
// first object is ignored.
//
// Of the library only the reading of headers and numbers is used. Its other
// calls are no match for a stranger's bytes: DecodeBytes allocates what a
// header announces (4 GiB), DecodeMapLen skips extensions, Skip and
// DecodeInterface recurse without bound, and lengths turn negative on
// 32-bit machines. So every length is held against what is left of the
// datagram, texts are taken from it by slicing, and depth is counted here.
func (d *Decoder) Msgpack(arena, datagram []byte, out *Draft) ([]byte, error) {
	*out = Draft{}
	if len(datagram) > d.limits.MaxBytes {
		return arena, refusals[thing.ReasonTooLarge]
	}
	if len(datagram) == 0 {
		return arena, refusals[thing.ReasonEmpty]
	}
	d.raw = datagram
	d.rd.Reset(datagram)
	d.mp.Reset(&d.rd)
	m := unpacked{ts: accepted}
	start := len(arena)
	arena, reason := d.unpack(arena, &m)
	d.raw = nil
	if reason == accepted {
		reason = m.reason()
	}
	if reason != accepted {
		return arena[:start], refusals[reason]
	}
	*out = m.draft
	out.Nonfinite = m.inData + m.inDoc
	return arena, nil
}

// unpacked is what a datagram was found to hold, the last of each member.
type unpacked struct {
	draft         Draft
	shape         bool         // an object, or a list of four
	isType        bool         // a type, and the right one; lists have none
	hasNS         bool         // an ns of whatever type
	okNS          bool         // a valid one
	ts            thing.Reason // accepted, or why not
	inData, inDoc int          // numbers there that became null
}

// reason gives why the message is refused.
func (m *unpacked) reason() thing.Reason {
	switch {
	case !m.shape:
		return thing.ReasonShape
	case !m.isType:
		return thing.ReasonType
	case !m.hasNS:
		return thing.ReasonNSMissing
	case !m.okNS:
		return thing.ReasonNS
	case m.draft.Data == nil:
		return thing.ReasonDataMissing
	}
	return m.ts
}

// slot names a member that counts.
type slot uint8

const (
	slotDropped slot = iota
	slotType
	slotNS
	slotData
	slotTS
	slotDoc
)

// listSlots is the order of members in the list form.
var listSlots = [4]slot{slotNS, slotTS, slotData, slotDoc}

// unpack reads the document.
func (d *Decoder) unpack(arena []byte, m *unpacked) ([]byte, thing.Reason) {
	c, reason := d.peek()
	switch {
	case reason != accepted:
		return arena, reason
	case isMap(c):
		m.shape = true
		n, reason := d.mapLen()
		for ; n > 0 && reason == accepted; n-- {
			var s slot
			if s, reason = d.topKey(); reason == accepted {
				arena, reason = d.member(arena, s, m)
			}
		}
		return arena, reason
	case isArray(c):
		n, reason := d.arrayLen()
		m.shape, m.isType = n == len(listSlots), true
		for i := 0; i < n && reason == accepted; i++ {
			s := slotDropped
			if i < len(listSlots) {
				s = listSlots[i]
			}
			arena, reason = d.member(arena, s, m)
		}
		return arena, reason
	}
	return arena, d.drop(1)
}

// topKey reads a key of the outermost map.
func (d *Decoder) topKey() (slot, thing.Reason) {
	var reason thing.Reason
	d.scratch, reason = d.key(d.scratch[:0], true)
	s := slotDropped
	switch string(d.scratch) {
	case `"type"`:
		s = slotType
	case `"ns"`:
		s = slotNS
	case `"data"`:
		s = slotData
	case `"ts"`:
		s = slotTS
	case `"documentation_url"`:
		s = slotDoc
	}
	return s, reason
}

// member reads the value of a member of the document.
func (d *Decoder) member(arena []byte, s slot, m *unpacked) ([]byte, thing.Reason) {
	c, reason := d.peek()
	if reason != accepted {
		return arena, reason
	}
	switch s {
	case slotType:
		m.isType = false
		if isString(c) {
			text, reason := d.text()
			m.isType = string(text) == updateType
			return arena, reason
		}
	case slotNS:
		m.hasNS, m.okNS = true, false
		if isString(c) {
			text, reason := d.text()
			if m.okNS = thing.ValidName(text); m.okNS {
				lo := len(arena)
				arena = append(arena, text...)
				m.draft.NS = arena[lo:len(arena):len(arena)]
			}
			return arena, reason
		}
	case slotTS:
		return d.unpackTS(arena, c, m)
	case slotData:
		arena, m.draft.Data, m.inData, reason = d.keepUnpacked(arena)
		return arena, reason
	case slotDoc:
		lo := len(arena)
		arena, m.draft.Doc, m.inDoc, reason = d.keepUnpacked(arena)
		if string(m.draft.Doc) == "null" {
			arena, m.draft.Doc = arena[:lo], nil
		}
		return arena, reason
	}
	return arena, d.drop(2)
}

// keepUnpacked converts the next value into arena.
func (d *Decoder) keepUnpacked(arena []byte) (_, v []byte, nonfinite int, _ thing.Reason) {
	lo := len(arena)
	arena, reason := d.appendValue(arena, 2, false, &nonfinite)
	if reason != accepted {
		return arena, nil, 0, reason
	}
	// Different keys may have become the same name.
	if c := arena[lo]; (c == '{' || c == '[') && !d.plain(arena[lo:]) {
		d.src = *bytes.NewBuffer(arena[lo:])
		d.dec.Reset(&d.src)
		if _, err := d.dec.ReadValue(); err != nil {
			arena = uniqueNames(arena, lo)
		}
	}
	return arena, arena[lo:len(arena):len(arena)], nonfinite, accepted
}

// unpackTS reads the time of the message, which begins with c.
func (d *Decoder) unpackTS(arena []byte, c byte, m *unpacked) ([]byte, thing.Reason) {
	m.draft.TS, m.draft.HasTS, m.ts = 0, false, accepted
	var f float64
	switch {
	case c == msgpcode.Nil:
		return arena, d.drop(2)
	case isFloat(c):
		v, err := d.mp.DecodeFloat64()
		if err != nil {
			return arena, thing.ReasonNotMsgpack
		}
		f = v
	case isUint(c):
		v, err := d.mp.DecodeUint64()
		if err != nil {
			return arena, thing.ReasonNotMsgpack
		}
		f = float64(v)
	case isInt(c):
		v, err := d.mp.DecodeInt64()
		if err != nil {
			return arena, thing.ReasonNotMsgpack
		}
		f = float64(v)
	case msgpcode.IsExt(c):
		v, _, reason := d.timestamp()
		if reason != accepted {
			return arena, reason
		}
		f = v
	default:
		m.ts = thing.ReasonTSType
		return arena, d.drop(2)
	}
	if math.IsNaN(f) || math.Abs(f) > MaxTS {
		m.ts = thing.ReasonTSRange
		return arena, accepted
	}
	m.draft.TS, m.draft.HasTS = f, true
	return arena, accepted
}
