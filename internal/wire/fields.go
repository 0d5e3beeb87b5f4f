package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"tbhist/thing"
)

// field names a member of the messages that are read by clients and by the
// history service.
type field uint8

const (
	fType field = iota
	fNS
	fData
	fTS
	fDoc
	fSeq
	fThingSeq
	fReceived
	fEpoch
	fPart
	fParts
	fDegraded
	fSkippedFrom
	fSkippedTo
	fSkipped
	fUnknown
	fSource
	fSources
	fKept
	fOldest
	fAddress
	fTransport
	fID
	fCount
	fFirstSeq
	fLastSeq
	fHead
	fNext
	fLimited
	fEvicted
	fEvictedExact
	fCode
	fMessage
	fTime
	fReason
	fTaken
	fSample
	fSuppressed
	fields // how many there are
)

var fieldNames = [fields]string{
	"type", "ns", "data", "ts", "documentation_url", "seq", "thing_seq",
	"received", "epoch", "part", "parts", "degraded", "skipped_from",
	"skipped_to", "skipped", "unknown", "source", "sources", "kept",
	"oldest", "address", "transport", "id", "count", "first_seq",
	"last_seq", "head", "next", "limited", "evicted", "evicted_exact",
	"code", "message", "time", "reason", "taken", "sample", "suppressed",
}

var fieldByName = func() map[string]field {
	m := make(map[string]field, fields)
	for f, name := range fieldNames {
		m[name] = field(f)
	}
	return m
}()

// reader takes objects apart, tolerantly: members it does not know are
// passed over, and of two with one name the last counts.
type reader struct {
	d *Decoder
}

var readers = sync.Pool{New: func() any {
	return &reader{d: NewDecoder(Limits{MaxBytes: math.MaxInt, MaxDepth: math.MaxInt, MaxNumber: math.MaxInt})}
}}

// errNotObject: the document is JSON, but no object.
var errNotObject = errors.New("not a JSON object")

// values are the raw values of one object, nil for members that are not
// there. They lie in the document.
type values struct {
	raw   [fields][]byte
	plain bool // jsontext took the document as it was
}

// object takes one object apart. v.raw lies in doc, or in memory of its own.
func (r *reader) object(doc []byte, v *values) error {
	v.plain = true
	err := r.split(doc, v)
	if err == nil || errors.Is(err, errNotObject) {
		return err
	}
	if !r.d.mend(doc) {
		return refusals[thing.ReasonNotUTF8]
	}
	mended := bytes.Clone(r.d.mended.doc)
	r.d.mended.release()
	*v = values{}
	if again := r.split(mended, v, jsontext.AllowDuplicateNames(true)); again != nil {
		return errors.New("not a JSON document: " + jsonError(err))
	}
	return nil
}

func (r *reader) split(doc []byte, v *values, opts ...jsontext.Options) error {
	d := r.d
	d.src = *bytes.NewBuffer(doc)
	d.dec.Reset(&d.src, opts...)
	if kind := d.dec.PeekKind(); kind != jsontext.KindBeginObject {
		if _, err := d.dec.ReadValue(); err != nil {
			return err
		}
		return errNotObject
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	for d.dec.PeekKind() != jsontext.KindEndObject {
		name, err := d.dec.ReadValue()
		if err != nil {
			return err
		}
		f, known := fieldByName[string(name[1:len(name)-1])]
		if !known && bytes.IndexByte(name, '\\') >= 0 {
			f, known = fieldByName[string(appendUnquoted(nil, name))]
		}
		s, err := d.value(doc)
		if err != nil {
			return err
		}
		if known {
			v.raw[f] = s.of(doc)
		}
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return err
	}
	if len(bytes.TrimLeft(doc[d.dec.InputOffset():], " \t\r\n")) > 0 {
		return errTrailing
	}
	return nil
}

// keep copies a value in its compact form.
func (r *reader) keep(v *values, f field) []byte {
	var n int
	b := r.d.compact(make([]byte, 0, len(v.raw[f])), v.raw[f], &n)
	if !v.plain {
		b = uniqueNames(b, 0)
	}
	return b
}

// null tells whether a member is missing or null.
func (v *values) null(f field) bool { return len(v.raw[f]) == 0 || v.raw[f][0] == 'n' }

// text gives a string; ok is false for another type or none.
func (v *values) text(f field) (s string, ok bool) {
	raw := v.raw[f]
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	return string(appendUnquoted(nil, raw)), true
}

// is tells whether a member is the string want, which has no escapes.
func (v *values) is(f field, want string) bool {
	raw := v.raw[f]
	if len(raw) == len(want)+2 && raw[0] == '"' && string(raw[1:len(raw)-1]) == want {
		return true
	}
	s, ok := v.text(f)
	return ok && s == want
}

func (v *values) truth(f field) bool { return string(v.raw[f]) == "true" }

// uint gives a whole number; 0 for null or none.
func (v *values) uint(f field) (uint64, error) {
	if v.null(f) {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(v.raw[f]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", fieldNames[f])
	}
	return n, nil
}

// seconds gives a finite number within ±MaxTS.
func (v *values) seconds(f field) (float64, error) {
	raw := v.raw[f]
	if v.null(f) || !isNumber(raw) {
		return 0, fmt.Errorf("%q is not a number", fieldNames[f])
	}
	s, ok := parseSeconds(raw)
	if !ok {
		return 0, fmt.Errorf("%q is beyond ±1e11", fieldNames[f])
	}
	return s, nil
}

// micros gives an instant; 0 for null or none.
func (v *values) micros(f field) (thing.Micros, error) {
	if v.null(f) {
		return 0, nil
	}
	m, ok := parseMicros(v.raw[f])
	if !ok {
		return 0, fmt.Errorf("%q is not a number of seconds", fieldNames[f])
	}
	return m, nil
}

func isNumber(raw []byte) bool {
	return len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9')
}

// parseMicros reads what AppendMicros wrote, exactly, and any other valid
// JSON number within ±MaxTS to the nearest microsecond.
func parseMicros(raw []byte) (thing.Micros, bool) {
	if !isNumber(raw) {
		return 0, false
	}
	digits := raw
	if digits[0] == '-' {
		digits = digits[1:]
	}
	var n int64
	decimals := -1
	for _, c := range digits {
		switch {
		case c == '.' && decimals < 0:
			decimals = 0
		case c >= '0' && c <= '9' && decimals < 6 && n < 1e17:
			n = n*10 + int64(c-'0')
			if decimals >= 0 {
				decimals++
			}
		default: // an exponent, or more digits than an instant has
			f, err := strconv.ParseFloat(string(raw), 64)
			if err != nil || math.Abs(f) > MaxTS {
				return 0, false
			}
			return thing.MicrosOfSeconds(f), true
		}
	}
	for decimals = max(decimals, 0); decimals < 6; decimals++ {
		if n > MaxTS*1e6 {
			return 0, false
		}
		n *= 10
	}
	if n > MaxTS*1e6 {
		return 0, false
	}
	if raw[0] == '-' {
		n = -n
	}
	return thing.Micros(n), true
}
