package adapt

import (
	"bytes"
	"encoding/json"
	"errors"
	"sync"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// decoders normalise JSON as a broker would.
var decoders = sync.Pool{New: func() any { return wire.NewDecoder(wire.Limits{MaxBytes: maxMessage + 100}) }}

// maxMessage is the size from which messages are not read.
const maxMessage = 1 << 20

// Compact takes one JSON document of any kind and gives it as a broker would
// keep it: without white space, the last of two members of one name alone,
// NaN, Infinity and numbers too large for a float64 null.
func Compact(doc []byte) ([]byte, *Skip) {
	doc = bytes.Trim(doc, " \t\r\n")
	if len(doc) > maxMessage {
		return nil, skip(ReasonTooLarge, "a message of %d bytes; %d are taken", len(doc), maxMessage)
	}
	if !closed(doc) {
		return nil, skip(ReasonNotJSON, "not one JSON document")
	}
	// Inside an update it is decoded by the rules of one.
	frame := append([]byte(wire.UpdatePrefix+`, "ns": "", "data": `), doc...)
	frame = append(frame, '}')
	d := decoders.Get().(*wire.Decoder) //nolint:forcetypeassert // nothing else is in there
	defer decoders.Put(d)
	var draft wire.Draft
	if _, err := d.JSON(nil, frame, &draft); err != nil {
		reason := ReasonNotJSON
		var refusal *thing.Refusal
		if errors.As(err, &refusal) && (refusal.Reason == thing.ReasonTooDeep || refusal.Reason == thing.ReasonNumberLength) {
			reason = ReasonInvalid
		}
		return nil, &Skip{Reason: reason, Detail: err.Error()}
	}
	return draft.Data, nil
}

// closed tells whether doc, put in the place of a value, stays in it: every
// bracket that it closes it has opened, and no comma or colon is outside of
// brackets and strings.
func closed(doc []byte) bool {
	depth, text := 0, false
	for i := 0; i < len(doc); i++ {
		c := doc[i]
		if text {
			switch c {
			case '\\':
				i++
			case '"':
				text = false
			}
			continue
		}
		switch c {
		case '"':
			text = true
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',', ':':
			if depth == 0 {
				return false
			}
		}
		if depth < 0 {
			return false
		}
	}
	return depth == 0 && !text && len(doc) > 0
}

// members takes a compact object apart; nil for anything else.
func members(compact []byte) map[string]json.RawMessage {
	if len(compact) == 0 || compact[0] != '{' {
		return nil
	}
	m := map[string]json.RawMessage{}
	if json.Unmarshal(compact, &m) != nil {
		return nil
	}
	return m
}
