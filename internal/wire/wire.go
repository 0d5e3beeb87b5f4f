// Package wire holds the codecs of docs/PROTOCOL.md: JSON and msgpack
// input, the messages of the live feed, snapshots, and the requests and
// answers of the history service.
//
// What comes in is normalised once, by Decoder; all that goes out is made
// of Append functions, so that the bytes of a line are the same live and
// replayed.
package wire

import (
	"errors"

	"tbhist/thing"
)

// Limits bound what a message may be. A part that is 0 takes its default.
type Limits struct {
	MaxBytes  int // of the message as received; 1 MiB
	MaxDepth  int // of arrays and objects, the document itself being 1; 512
	MaxNumber int // characters of a number literal; 1000
}

// Defaults of Limits.
const (
	DefaultMaxBytes  = 1 << 20
	DefaultMaxDepth  = 512
	DefaultMaxNumber = 1000
)

func (l Limits) withDefaults() Limits {
	if l.MaxBytes == 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	if l.MaxDepth == 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	if l.MaxNumber == 0 {
		l.MaxNumber = DefaultMaxNumber
	}
	return l
}

// MaxTS bounds |ts|, in seconds.
const MaxTS = 1e11

// Draft is one decoded message. Its slices lie in the arena that the
// decoder was given and are valid until that is reused.
type Draft struct {
	// NS is a valid thing.Name.
	NS []byte
	// Data and Doc are compact JSON; Doc is nil for null or missing.
	Data, Doc []byte
	// TS is the source's time in seconds since 1970, if HasTS.
	TS    float64
	HasTS bool
	// Nonfinite counts the NaN, infinities and numbers beyond float64 in
	// Data and Doc that became null; Surrogates the lone surrogate escapes
	// that became U+FFFD.
	Nonfinite, Surrogates int
}

const updateType = "thing_update"

var refusals = func() (r [thing.Reasons]*thing.Refusal) {
	var ns thing.Refusal
	if _, err := thing.ParseName("."); err != nil {
		var refusal *thing.Refusal
		if errors.As(err, &refusal) {
			ns = *refusal
		}
	}
	for reason, taken := range [thing.Reasons]string{
		thing.ReasonEmpty:        "one message a frame or datagram",
		thing.ReasonNotUTF8:      "UTF-8",
		thing.ReasonNotJSON:      "one JSON document a frame, with nothing before or after it",
		thing.ReasonNotMsgpack:   "a datagram that begins with one whole msgpack object",
		thing.ReasonShape:        `an object with "type", "ns" and "data", or a list [ns, ts, data, documentation_url]; keys of a msgpack map: no array or map`,
		thing.ReasonType:         `"type": "thing_update"`,
		thing.ReasonNSMissing:    `an "ns", "" for the root Thing`,
		thing.ReasonNS:           ns.Taken,
		thing.ReasonDataMissing:  `a "data" of any value, null too`,
		thing.ReasonTSType:       `a "ts" that is a number of seconds since 1970, or null for the broker's clock`,
		thing.ReasonTSRange:      `a finite "ts" between -1e11 and 1e11: seconds since 1970 (is it milliseconds?)`,
		thing.ReasonNumberLength: "numbers of at most 1000 characters",
		thing.ReasonExt:          "no msgpack extension but timestamp (-1)",
		thing.ReasonTooLarge:     "messages of at most --max-update",
		thing.ReasonTooDeep:      "arrays and objects nested at most 512 deep",
		thing.ReasonMaxThings:    "no more Things than --max-things",
		thing.ReasonNotAllowed:   "input from the networks of --allow-input",
		thing.ReasonDenied:       "no Thing that --deny names, nor any below it",
		thing.ReasonRate:         "no more from one address than --input-rate; over ZeroMQ the rest waits",
	} {
		r[reason] = &thing.Refusal{Reason: thing.Reason(reason), Taken: taken}
	}
	return r
}()

// Refusal gives the shared value for a reason, with what would be taken.
func Refusal(r thing.Reason) *thing.Refusal { return refusals[r] }
