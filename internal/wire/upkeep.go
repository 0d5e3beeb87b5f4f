package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"tbhist/thing"
)

// The paths of the upkeep requests on the HTTP port (docs/PROTOCOL.md,
// Upkeep).
const (
	PathForget = "/api/v1/forget"
	PathStats  = "/api/v1/stats"
	PathBackup = "/api/v1/backup"
)

const (
	// MaxUpkeepRequest bounds the bytes of an upkeep request's body.
	MaxUpkeepRequest = 16 << 10
	// MaxForgottenNames bounds the names listed in the answer to a forget.
	MaxForgottenNames = 1000
	// BackupError is the trailer that says why a backup ended before its end;
	// absent after a whole one.
	BackupError = "Tbhist-Error"
)

// The codes of errors that upkeep requests have beside those of the history
// service.
const (
	CodeForbidden    = "forbidden"    // never from there, or not without a token
	CodeUnauthorized = "unauthorized" // a token is needed, or it is another
	CodeFailed       = "failed"       // tried, and something went wrong
)

// ForgetRequest asks to forget a Thing.
type ForgetRequest struct {
	NS     thing.Name
	Tree   bool // all Things below it, too
	DryRun bool // only say what would go
}

// Marshal gives the request's body.
func (r ForgetRequest) Marshal() ([]byte, error) {
	return json.Marshal(struct {
		NS     thing.Name `json:"ns"`
		Tree   bool       `json:"tree"`
		DryRun bool       `json:"dry_run"`
	}(r))
}

// ParseForgetRequest reads the body of a request, strictly: what it asks for
// cannot be undone. The error says what is wrong. An "ns" that is not there is
// one: it does not mean the root.
func ParseForgetRequest(body []byte) (ForgetRequest, error) {
	const taken = `taken is {"ns": NS, "tree": BOOL, "dry_run": BOOL}`
	if jsontext.Value(bytes.TrimLeft(body, " \t\r\n")).Kind() != jsontext.KindBeginObject {
		return ForgetRequest{}, errors.New(taken)
	}
	all, err := membersOf(body, "what is to be forgotten")
	if err != nil {
		return ForgetRequest{}, err
	}
	var ns *thing.Name
	var tree, dryRun *bool
	for _, m := range all {
		name, raw := string(appendUnquoted(nil, m.name.of(body))), m.value.of(body)
		switch {
		case name != "ns" && name != "tree" && name != "dry_run":
			return ForgetRequest{}, fmt.Errorf("%q is not known: %s", name, taken)
		case string(raw) == "null":
		case name == "ns":
			ns, err = rawName(raw)
		case name == "tree":
			tree, err = rawBool(name, raw)
		default:
			dryRun, err = rawBool(name, raw)
		}
		if err != nil {
			return ForgetRequest{}, err
		}
	}
	if ns == nil {
		return ForgetRequest{}, errors.New(`"ns" is missing; "" is the root Thing`)
	}
	return ForgetRequest{NS: *ns, Tree: tree != nil && *tree, DryRun: dryRun != nil && *dryRun}, nil
}

// Forgotten is the answer to a ForgetRequest.
type Forgotten struct {
	Things  int    `json:"things"`
	Updates uint64 `json:"updates"` // that history held of them
	// Names are the first MaxForgottenNames of the Things, in byte order.
	Names []thing.Name `json:"names"`
}

// Instant is a time in an upkeep answer: seconds since 1970, null for 0.
type Instant thing.Micros

// MarshalJSON writes seconds.
func (i Instant) MarshalJSON() ([]byte, error) {
	if i == 0 {
		return []byte("null"), nil
	}
	return AppendMicros(nil, thing.Micros(i)), nil
}

// UnmarshalJSON reads seconds or null.
func (i *Instant) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*i = 0
		return nil
	}
	m, ok := parseMicros(b)
	if !ok {
		return fmt.Errorf("%q is not a time in seconds", b)
	}
	*i = Instant(m)
	return nil
}

// Span is a length of time in an upkeep answer: seconds, null for 0.
type Span time.Duration

// MarshalJSON writes seconds.
func (s Span) MarshalJSON() ([]byte, error) {
	if s == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(time.Duration(s).Seconds())
}

// UnmarshalJSON reads seconds or null.
func (s *Span) UnmarshalJSON(b []byte) error {
	var seconds *float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	*s = 0
	if seconds != nil {
		const most = float64(1<<63-1) / float64(time.Second) / 2
		*s = Span(min(max(*seconds, 0), most) * float64(time.Second))
	}
	return nil
}

// Stats is what a history holds, summed by prefix.
type Stats struct {
	Epoch string     `json:"epoch"`
	Head  uint64     `json:"head"`
	At    Instant    `json:"at"` // the clock that reach was worked out by
	NS    thing.Name `json:"ns"`
	Depth int        `json:"depth"`
	// FileBytes is the size of the file, MaxBytes what it may be; 0 where
	// that is not known.
	FileBytes int64 `json:"file_bytes"`
	MaxBytes  int64 `json:"max_bytes"`
	// Total sums all of NS; Prefixes are in byte order.
	Total    PrefixStats   `json:"total"`
	Prefixes []PrefixStats `json:"prefixes"`
}

// PrefixStats sums what history holds of the Things of one prefix.
type PrefixStats struct {
	NS      thing.Name `json:"ns"`
	Things  int        `json:"things"`
	Updates uint64     `json:"updates"`
	// Bytes is data and documentation URLs added up, before compression.
	Bytes int64 `json:"bytes"`
	// Oldest and Newest are when the first and the last kept update were
	// received.
	Oldest Instant `json:"oldest"`
	Newest Instant `json:"newest"`
	// Reach is how far back the ring that reaches least goes once it is full,
	// if updates go on coming as they did; ReachOf is its Thing. 0: nothing
	// bounds any of them but the size of the file, or too little came to tell.
	Reach   Span        `json:"reach"`
	ReachOf *thing.Name `json:"reach_of"`
}

// UpkeepError is the body of an answer that is no success.
type UpkeepError struct {
	Type    string `json:"type"` // "error"
	Code    string `json:"code"`
	Message string `json:"message"`
}
