package thing

// Reason is the short code of a refused message: the label of the metric,
// the key of the log line and a member on the wire.
type Reason uint8

// The reasons for which input is refused (docs/PROTOCOL.md, Input).
const (
	ReasonEmpty        Reason = iota // a frame or datagram of no bytes
	ReasonNotUTF8                    // JSON or msgpack text that is not UTF-8
	ReasonNotJSON                    // a frame that is not one JSON document
	ReasonNotMsgpack                 // a datagram that does not begin with one msgpack object
	ReasonShape                      // neither an update object nor a list of four
	ReasonType                       // "type" is missing or not "thing_update"
	ReasonNSMissing                  // no "ns"
	ReasonNS                         // "ns" is not a namespace
	ReasonDataMissing                // no "data"
	ReasonTSType                     // "ts" is neither null nor a number
	ReasonTSRange                    // "ts" is not finite or beyond ±1e11
	ReasonNumberLength               // a number literal of more than 1,000 characters
	ReasonExt                        // a msgpack extension other than timestamp
	ReasonTooLarge                   // more bytes than --max-update
	ReasonTooDeep                    // nested deeper than 512
	ReasonMaxThings                  // a new Thing beyond --max-things
	ReasonNotAllowed                 // from an address outside --allow-input
	ReasonDenied                     // a Thing under --deny
	ReasonRate                       // more from one address than --input-rate
	Reasons                          // how many there are
)

var reasonCodes = [Reasons]string{
	"empty", "not_utf8", "not_json", "not_msgpack", "shape", "type",
	"ns_missing", "ns", "data_missing", "ts_type", "ts_range",
	"number_length", "ext", "too_large", "too_deep", "max_things",
	"not_allowed", "denied", "rate",
}

// String gives the code.
func (r Reason) String() string {
	if r < Reasons {
		return reasonCodes[r]
	}
	return "unknown"
}

const takenNS = `"" or parts of [a-z][a-z0-9_-]{0,63} joined by ".", 1024 bytes at most`

// Refusal is why a message was not taken. Refusals without detail are
// shared values, so that a flood of bad input allocates nothing.
type Refusal struct {
	Reason Reason
	// Taken says what would have been taken instead, for the log line.
	Taken string
}

// Error gives the code and what would be taken.
func (r *Refusal) Error() string {
	if r.Taken == "" {
		return "refused: " + r.Reason.String()
	}
	return "refused: " + r.Reason.String() + ": taken is " + r.Taken
}
