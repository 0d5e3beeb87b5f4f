package adapt

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/thing"
)

// Filter lets messages pass whose member Key is Value.
type Filter struct {
	Key   string
	Value string
}

// ParseFilter takes "key:value"; the value may have further colons.
func ParseFilter(s string) (Filter, error) {
	key, value, ok := strings.Cut(s, ":")
	if !ok {
		return Filter{}, fmt.Errorf("%q is not KEY:VALUE, as in mtype:percept_update", s)
	}
	return Filter{Key: key, Value: value}, nil
}

// matches tells whether a member's value, as compact JSON, is the filter's: a
// text by what it says, a number or a boolean by how it is written.
func (f *Filter) matches(value json.RawMessage) bool {
	if len(value) == 0 {
		return false
	}
	switch value[0] {
	case '"':
		text, ok := textOf(value)
		return ok && text == f.Value
	case '{', '[':
		return false
	}
	return string(value) == f.Value
}

// Rules say what to make of a message. The zero value takes everything as it
// is.
type Rules struct {
	// Filters must all match.
	Filters []Filter
	// NSKey, unless "", is the member that says below which Thing the data
	// belongs; where it is null or "", the data is of the base itself.
	NSKey string
	// TSKey, unless "", is the member that says when it was so, in seconds
	// since 1970; null is now.
	TSKey string
	// Projections, unless empty, are the members that make up the data, in
	// this order.
	Projections []string
}

// keys tells whether a message must be an object.
func (r *Rules) keys() bool {
	return len(r.Filters) > 0 || r.NSKey != "" || r.TSKey != "" || len(r.Projections) > 0
}

// Take makes an update of a message that Compact has given: its Name is below
// the base, its TS nil for now.
func (r *Rules) Take(compact []byte) (client.Message, *Skip) {
	m := client.Message{Data: compact}
	if !r.keys() {
		return m, nil
	}
	object := members(compact)
	if object == nil {
		return m, skip(ReasonNotObject, "not a JSON object")
	}
	for i := range r.Filters {
		if f := &r.Filters[i]; !f.matches(object[f.Key]) {
			return m, &Skip{Reason: ReasonFilter}
		}
	}
	if err := r.name(object, &m); err != nil {
		return m, err
	}
	if err := r.time(object, &m); err != nil {
		return m, err
	}
	return m, r.project(object, &m)
}

func (r *Rules) name(object map[string]json.RawMessage, m *client.Message) *Skip {
	if r.NSKey == "" {
		return nil
	}
	value, ok := object[r.NSKey]
	if !ok {
		return missing(r.NSKey)
	}
	if string(value) == "null" {
		return nil
	}
	text, ok := textOf(value)
	if !ok {
		return skip(ReasonNS, "the value of %q is not a text", r.NSKey)
	}
	name, err := thing.ParseName(text)
	if err != nil {
		return skip(ReasonNS, "%q as the value of %q: %v", text, r.NSKey, err)
	}
	m.Name = name
	return nil
}

func (r *Rules) time(object map[string]json.RawMessage, m *client.Message) *Skip {
	if r.TSKey == "" {
		return nil
	}
	value, ok := object[r.TSKey]
	if !ok {
		return missing(r.TSKey)
	}
	if string(value) == "null" {
		return nil
	}
	ts, err := strconv.ParseFloat(string(value), 64)
	switch {
	case err != nil:
		return skip(ReasonTS, "the value of %q is not a number", r.TSKey)
	case math.Abs(ts) > wire.MaxTS:
		return skip(ReasonTS, "the value of %q is beyond ±1e11 seconds: is it milliseconds?", r.TSKey)
	}
	m.TS = &ts
	return nil
}

func (r *Rules) project(object map[string]json.RawMessage, m *client.Message) *Skip {
	if len(r.Projections) == 0 {
		return nil
	}
	data := []byte{'{'}
	for i, key := range r.Projections {
		value, ok := object[key]
		if !ok {
			return missing(key)
		}
		if i > 0 {
			data = append(data, ',')
		}
		name, err := json.Marshal(key)
		if err != nil {
			return skip(ReasonInvalid, "%q: %v", key, err)
		}
		data = append(append(append(data, name...), ':'), value...)
	}
	m.Data = append(data, '}')
	return nil
}

func missing(key string) *Skip { return skip(ReasonKey, "it has no %q", key) }

func textOf(value json.RawMessage) (string, bool) {
	var s *string
	if json.Unmarshal(value, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}
