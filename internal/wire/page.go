package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"tbhist/thing"
)

// The types of answers of the history service.
const (
	TypeReplayPage    = "replay_page"
	TypeDirectoryPage = "directory_page"
	TypeRefusedPage   = "refused_page"
)

// The codes of an ErrorFrame.
const (
	CodeBadRequest   = "bad_request"
	CodeEpochChanged = "epoch_changed"
	CodeTooLarge     = "too_large"
	CodeBusy         = "busy"
	CodeUnavailable  = "unavailable"
)

// Codes are all of them, for metrics.
var Codes = []string{CodeBadRequest, CodeEpochChanged, CodeTooLarge, CodeBusy, CodeUnavailable}

// PageHead is the first frame of an answer; Count lines follow in the
// second.
type PageHead struct {
	Type  string // one of the page types
	ID    []byte // of the request, as written; nil for none
	Epoch string
	Count uint64
	// First and Last are the seq of the first and last line of a replay
	// page; 0 (on the wire null) when Count is 0.
	First, Last uint64
	// Head is the durable head when the page was read.
	Head uint64
	// Next is the cursor of the next page, "" (on the wire null) when the
	// answer is complete up to Head.
	Next string
	// Limited: the limit of the request ended the answer.
	Limited bool
	// Evicted counts updates in the span of this page that history no
	// longer holds: exactly if EvictedExact, else at most so many.
	Evicted      uint64
	EvictedExact bool
}

// Append appends the frame. A refused page has a count only.
func (h *PageHead) Append(dst []byte) []byte {
	dst = append(dst, `{"type": `...)
	dst = appendString(dst, h.Type)
	if h.Type != TypeRefusedPage {
		dst = appendString(appendName(dst, "epoch"), h.Epoch)
	}
	dst = appendCount(dst, "count", &h.Count)
	if h.Type == TypeReplayPage {
		dst = appendSeq(dst, "first_seq", h.First)
		dst = appendSeq(dst, "last_seq", h.Last)
	}
	if h.Type != TypeRefusedPage {
		dst = appendCount(dst, "head", &h.Head)
		dst = appendName(dst, "next")
		if h.Next == "" {
			dst = append(dst, "null"...)
		} else {
			dst = appendString(dst, h.Next)
		}
	}
	if h.Type == TypeReplayPage {
		if h.Limited {
			dst = append(dst, `, "limited": true`...)
		}
		dst = appendCount(dst, "evicted", &h.Evicted)
		dst = appendBool(dst, "evicted_exact", &h.EvictedExact)
	}
	dst = appendID(dst, h.ID)
	return append(dst, '}')
}

// appendSeq shows 0 as null.
func appendSeq(dst []byte, name string, n uint64) []byte {
	dst = appendName(dst, name)
	if n == 0 {
		return append(dst, "null"...)
	}
	return strconv.AppendUint(dst, n, 10)
}

func appendID(dst, id []byte) []byte {
	if id == nil {
		return dst
	}
	return append(appendName(dst, "id"), id...)
}

// ErrorFrame is the answer to a request that failed. It is an error to the
// client.
type ErrorFrame struct {
	Code    string // one of the Codes
	Message string // what is wrong and what is taken
	Epoch   string
	ID      []byte // of the request, as written; nil for none
}

// Error gives the message behind its code.
func (e *ErrorFrame) Error() string { return e.Code + ": " + e.Message }

// Append appends the frame.
func (e *ErrorFrame) Append(dst []byte) []byte {
	dst = append(dst, `{"type": "error", "code": `...)
	dst = appendString(dst, e.Code)
	dst = appendString(appendName(dst, "message"), e.Message)
	dst = appendString(appendName(dst, "epoch"), e.Epoch)
	dst = appendID(dst, e.ID)
	return append(dst, '}')
}

// ParseHead reads the first frame of an answer. An error frame is given as
// an error of type *ErrorFrame.
func ParseHead(frame []byte) (*PageHead, error) {
	r := readers.Get().(*reader) // nothing else is in there
	defer readers.Put(r)
	var v values
	if err := r.object(frame, &v); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	typ, _ := v.text(fType)
	var id []byte
	if !v.null(fID) {
		id = bytes.Clone(v.raw[fID])
	}
	epoch, _ := v.text(fEpoch)
	switch typ {
	case "error":
		e := &ErrorFrame{Epoch: epoch, ID: id}
		e.Code, _ = v.text(fCode)
		e.Message, _ = v.text(fMessage)
		return nil, e
	case TypeReplayPage, TypeDirectoryPage, TypeRefusedPage:
	default:
		return nil, errors.New("answer: of a type that is not known")
	}
	h := &PageHead{Type: typ, ID: id, Epoch: epoch, Limited: v.truth(fLimited), EvictedExact: v.truth(fEvictedExact)}
	h.Next, _ = v.text(fNext)
	for f, n := range map[field]*uint64{
		fCount: &h.Count, fFirstSeq: &h.First, fLastSeq: &h.Last, fHead: &h.Head, fEvicted: &h.Evicted,
	} {
		var err error
		if *n, err = v.uint(f); err != nil {
			return nil, fmt.Errorf("answer: %w", err)
		}
	}
	return h, nil
}

// Refused is one line of a refused page: a message that was not taken.
type Refused struct {
	Time      thing.Micros
	Source    string // address
	Transport string
	Reason    string
	Taken     string // what would have been taken
	Sample    string // the first bytes of the message, escaped
	// Suppressed counts those like it that were not reported one by one.
	Suppressed uint64
}

// Append appends the line.
func (r *Refused) Append(dst []byte) []byte {
	dst = append(dst, `{"time": `...)
	dst = AppendMicros(dst, r.Time)
	dst = appendString(appendName(dst, "source"), r.Source)
	dst = appendString(appendName(dst, "transport"), r.Transport)
	dst = appendString(appendName(dst, "reason"), r.Reason)
	dst = appendString(appendName(dst, "taken"), r.Taken)
	dst = appendString(appendName(dst, "sample"), r.Sample)
	dst = appendCount(dst, "suppressed", &r.Suppressed)
	return append(dst, '}')
}

// ParseRefused reads one line of a refused page.
func ParseRefused(line []byte) (Refused, error) {
	rd := readers.Get().(*reader) // nothing else is in there
	defer readers.Put(rd)
	var v values
	var r Refused
	err := rd.object(line, &v)
	if err != nil {
		return r, err
	}
	if r.Time, err = v.micros(fTime); err != nil {
		return r, err
	}
	for f, s := range map[field]*string{
		fSource: &r.Source, fTransport: &r.Transport, fReason: &r.Reason, fTaken: &r.Taken, fSample: &r.Sample,
	} {
		*s, _ = v.text(f)
	}
	r.Suppressed, err = v.uint(fSuppressed)
	return r, err
}
