package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"tbhist/thing"
)

// The types of requests to the history service.
const (
	TypeReplay    = "replay"
	TypeDirectory = "directory"
	TypeRefused   = "refused"
)

// What "by" may be.
const (
	ByReceived = "received"
	ByTS       = "ts"
)

// Bounds of a page.
const (
	PageBytesDefault = 256 << 10
	PageBytesMax     = 4 << 20
	// MaxID bounds the bytes of an "id" as written.
	MaxID = 1024
)

// Request is one request to the history service. A member that is absent is
// nil, or "" for a string.
type Request struct {
	Type string // one of the Types
	// ID is echoed in the answers: a JSON string or integer as written.
	ID []byte
	// NS and Tree: absent means "" and true.
	NS   *thing.Name
	Tree *bool
	// Since <= t < Until; instants <= 0 are relative to the broker's clock
	// (see Absolute). By says which time is meant, absent ByReceived.
	Since, Until *thing.Micros
	By           string
	// After is exclusive. Last and Limit are at least 1.
	After, Last, Limit *uint64
	// PageBytes is at least 1; see PageSize.
	PageBytes *int
	Epoch     string
	// Cursor carries a whole question: of the other members only Type,
	// PageBytes and ID count beside it.
	Cursor string
	// At and Wide belong to a directory request.
	At   *thing.Micros
	Wide *bool
}

// Name gives the Thing asked for, the root when none was.
func (r *Request) Name() thing.Name {
	if r.NS == nil {
		return ""
	}
	return *r.NS
}

// WithTree tells whether all below the Thing is asked for, too.
func (r *Request) WithTree() bool { return r.Tree == nil || *r.Tree }

// PageSize gives the bytes of a page, within the bounds of the protocol.
func (r *Request) PageSize() int {
	if r.PageBytes == nil {
		return PageBytesDefault
	}
	return min(*r.PageBytes, PageBytesMax)
}

// Absolute gives the instant meant by t: one that is <= 0 is relative to
// now.
func Absolute(t, now thing.Micros) thing.Micros {
	if t <= 0 {
		return now + t
	}
	return t
}

// ParseRequest reads a request, strictly: the error is one sentence that
// says what is wrong and what is taken. The request is never nil and holds
// ID wherever one could be read, so that an error can echo it.
func ParseRequest(frame []byte) (*Request, error) {
	r := new(Request)
	if jsontext.Value(bytes.TrimLeft(frame, " \t\r\n")).Kind() != jsontext.KindBeginObject {
		return r, errors.New(`a request is one JSON object: {"type": "replay" | "directory" | "refused", …}`)
	}
	all, err := membersOf(frame, "a request")
	if err != nil {
		return r, err
	}
	return r, r.set(frame, all)
}

// membersOf reads the members of a document that is one object: what it is
// called in errors.
func membersOf(doc []byte, what string) (all []named, err error) {
	d := Decoder{dec: jsontext.NewDecoder(bytes.NewBuffer(doc))}
	wrong := func(err error) error {
		return fmt.Errorf("%s is one JSON object with each member once: %s", what, jsonError(err))
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return nil, wrong(err)
	}
	for d.dec.PeekKind() != jsontext.KindEndObject {
		name, err := d.value(doc)
		if err != nil {
			return nil, wrong(err)
		}
		value, err := d.value(doc)
		if err != nil {
			return nil, wrong(err)
		}
		all = append(all, named{name, value})
	}
	if _, err := d.dec.ReadToken(); err != nil {
		return nil, wrong(err)
	}
	if len(bytes.TrimLeft(doc[d.dec.InputOffset():], " \t\r\n")) > 0 {
		return nil, fmt.Errorf("%s is one JSON object, and something follows it", what)
	}
	return all, nil
}

// jsonError says what is wrong with a document, without the name of who found
// it.
func jsonError(err error) string { return strings.TrimPrefix(err.Error(), "jsontext: ") }

// set reads the members. Those that every request may have come first: they
// say which others count.
func (r *Request) set(frame []byte, all []named) error {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	cursor := false
	for pass := range 2 {
		for _, m := range all {
			name, raw := string(appendUnquoted(nil, m.name.of(frame))), m.value.of(frame)
			switch name {
			case "type", "id", "page_bytes", "cursor":
				if pass == 0 && (string(raw) != "null" || name == "type") {
					note(r.member(name, raw))
					cursor = cursor || name == "cursor"
				}
			default:
				if pass == 1 && !cursor {
					note(r.other(name, raw))
				}
			}
		}
		if first == nil && r.Type == "" {
			note(errType)
		}
		if first == nil && r.Type == TypeRefused && (cursor || r.PageBytes != nil) {
			note(errors.New(`a "refused" request has no "cursor" and no "page_bytes": its answer is one page`))
		}
	}
	return first
}

var errType = errors.New(`"type" is one of "replay", "directory" and "refused"`)

// other reads a member that not every request has.
func (r *Request) other(name string, raw []byte) error {
	taken := map[string]string{
		TypeReplay:    "ns tree since until by after last limit epoch",
		TypeDirectory: "ns tree at wide epoch",
	}[r.Type]
	for _, t := range bytes.Fields([]byte(taken)) {
		if string(t) == name {
			if string(raw) == "null" {
				return nil
			}
			return r.member(name, raw)
		}
	}
	if len(name) > 80 {
		name = name[:80] + "…"
	}
	if r.Type == "" {
		return nil // the type is complained of
	}
	return fmt.Errorf("%q is no member of a %q request; taken are type, id, page_bytes, cursor and: %s", name, r.Type, taken)
}

// member reads one member that is not null.
func (r *Request) member(name string, raw []byte) (err error) {
	switch name {
	case "type":
		typ, ok := rawText(raw)
		if !ok || typ != TypeReplay && typ != TypeDirectory && typ != TypeRefused {
			return errType
		}
		r.Type = typ
	case "id":
		if len(raw) > MaxID || raw[0] != '"' && !isInteger(raw) {
			return fmt.Errorf(`"id" is a string or an integer of at most %d bytes`, MaxID)
		}
		r.ID = bytes.Clone(raw)
	case "ns":
		r.NS, err = rawName(raw)
	case "tree":
		r.Tree, err = rawBool(name, raw)
	case "wide":
		r.Wide, err = rawBool(name, raw)
	case "since":
		r.Since, err = rawInstant(name, raw)
	case "until":
		r.Until, err = rawInstant(name, raw)
	case "at":
		r.At, err = rawInstant(name, raw)
	case "by":
		by, ok := rawText(raw)
		if !ok || by != ByReceived && by != ByTS {
			return errors.New(`"by" is "received" or "ts"`)
		}
		r.By = by
	case "after":
		r.After, err = rawCount(name, raw, 0)
	case "last":
		r.Last, err = rawCount(name, raw, 1)
	case "limit":
		r.Limit, err = rawCount(name, raw, 1)
	case "page_bytes":
		n, err := rawCount(name, raw, 1)
		if err != nil {
			return err
		}
		size := int(min(*n, math.MaxInt32))
		r.PageBytes = &size
	case "epoch":
		r.Epoch, err = rawWord(name, raw, "the name of a history")
	case "cursor":
		r.Cursor, err = rawWord(name, raw, `the "next" of the page before`)
	}
	return err
}

func rawName(raw []byte) (*thing.Name, error) {
	s, ok := rawText(raw)
	n, err := thing.ParseName(s)
	if !ok || err != nil {
		return nil, fmt.Errorf(`"ns" is a namespace: %s`, refusals[thing.ReasonNS].Taken)
	}
	return &n, nil
}

func rawText(raw []byte) (string, bool) {
	if raw[0] != '"' {
		return "", false
	}
	return string(appendUnquoted(nil, raw)), true
}

func rawWord(name string, raw []byte, what string) (string, error) {
	s, ok := rawText(raw)
	if !ok || s == "" {
		return "", fmt.Errorf("%q is a string: %s", name, what)
	}
	return s, nil
}

func rawBool(name string, raw []byte) (*bool, error) {
	switch b := raw[0] == 't'; raw[0] {
	case 't', 'f':
		return &b, nil
	}
	return nil, fmt.Errorf("%q is true or false", name)
}

func rawInstant(name string, raw []byte) (*thing.Micros, error) {
	m, ok := parseMicros(raw)
	if !ok {
		return nil, fmt.Errorf("%q is a number of seconds since 1970 within ±1e11; one that is 0 or less is relative to the broker's clock", name)
	}
	return &m, nil
}

func rawCount(name string, raw []byte, least uint64) (*uint64, error) {
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || n < least || !isInteger(raw) {
		return nil, fmt.Errorf("%q is a whole number of at least %d", name, least)
	}
	return &n, nil
}

func isInteger(raw []byte) bool {
	return isNumber(raw) && !bytes.ContainsAny(raw, ".eE")
}

// Append appends the request.
func (r *Request) Append(dst []byte) []byte {
	dst = append(dst, `{"type": `...)
	dst = appendString(dst, r.Type)
	if r.ID != nil {
		dst = append(dst, `, "id": `...)
		dst = append(dst, r.ID...)
	}
	if r.NS != nil {
		dst = append(dst, `, "ns": `...)
		dst = appendString(dst, *r.NS)
	}
	dst = appendBool(dst, "tree", r.Tree)
	dst = appendInstant(dst, "since", r.Since)
	dst = appendInstant(dst, "until", r.Until)
	dst = appendText(dst, "by", r.By)
	dst = appendCount(dst, "after", r.After)
	dst = appendCount(dst, "last", r.Last)
	dst = appendCount(dst, "limit", r.Limit)
	if r.PageBytes != nil {
		dst = append(dst, `, "page_bytes": `...)
		dst = strconv.AppendInt(dst, int64(*r.PageBytes), 10)
	}
	dst = appendText(dst, "epoch", r.Epoch)
	dst = appendText(dst, "cursor", r.Cursor)
	dst = appendInstant(dst, "at", r.At)
	dst = appendBool(dst, "wide", r.Wide)
	return append(dst, '}')
}

func appendName(dst []byte, name string) []byte {
	dst = append(dst, `, "`...)
	dst = append(dst, name...)
	return append(dst, `": `...)
}

func appendText(dst []byte, name, s string) []byte {
	if s == "" {
		return dst
	}
	return appendString(appendName(dst, name), s)
}

func appendBool(dst []byte, name string, b *bool) []byte {
	if b == nil {
		return dst
	}
	return strconv.AppendBool(appendName(dst, name), *b)
}

func appendCount(dst []byte, name string, n *uint64) []byte {
	if n == nil {
		return dst
	}
	return strconv.AppendUint(appendName(dst, name), *n, 10)
}

func appendInstant(dst []byte, name string, m *thing.Micros) []byte {
	if m == nil {
		return dst
	}
	return AppendMicros(appendName(dst, name), *m)
}
