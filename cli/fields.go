package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// field is a member of the data that --fields names.
type field struct {
	path   string
	column string // its name in the output
	parts  []string
	had    bool // by some update
}

// parseFields reads --fields.
func parseFields(s string) ([]*field, error) {
	var fields []*field
	for path := range strings.SplitSeq(s, ",") {
		path = strings.TrimSpace(path)
		parts := strings.Split(path, ".")
		switch {
		case slices.Contains(parts, ""):
			return nil, usagef("--fields: %q is not a field: names of members joined by \".\", as in luminance,position.x,axes.0", path)
		case slices.ContainsFunc(fields, func(f *field) bool { return f.path == path }):
			return nil, usagef("--fields: %q is given twice", path)
		}
		column := path
		if path == "time" || path == "ns" { // which there are already
			column = "data." + path
		}
		fields = append(fields, &field{path: path, column: column, parts: parts})
	}
	return fields, nil
}

// in gives the field's value in some data, nil where it has none. null is a
// value.
func (f *field) in(data any) (value any, ok bool) {
	for _, part := range f.parts {
		switch of := data.(type) {
		case map[string]any:
			if data, ok = of[part]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.ParseUint(part, 10, 31)
			if err != nil || i >= uint64(len(of)) {
				return nil, false
			}
			data = of[i]
		default:
			return nil, false
		}
	}
	f.had = true
	return data, true
}

// fieldsPrinter writes a few members of the data: in columns, as an object
// or for people.
type fieldsPrinter struct {
	fields  []*field
	byTS    bool
	updates uint64
	write   func(u *thing.Update, at thing.Micros, values []*any) error
	values  []*any          // of one update, by field; nil where it has none
	known   map[string]bool // paths that updates had, some of them
}

func newFieldsPrinter(w io.Writer, format string, c clock, byTS bool, fields []*field) (*fieldsPrinter, error) {
	p := &fieldsPrinter{fields: fields, byTS: byTS, values: make([]*any, len(fields))}
	switch format {
	case formatText, "":
		p.write = p.text(w, c)
	case formatJSON:
		p.write = p.json(w)
	case formatCSV:
		return p, p.csv(w)
	default:
		return nil, errFormat(format)
	}
	return p, nil
}

func (p *fieldsPrinter) print(u *thing.Update) error {
	p.updates++
	at := u.Received
	if p.byTS {
		at = thing.MicrosOfSeconds(u.TS)
	}
	d := json.NewDecoder(bytes.NewReader(u.Data))
	d.UseNumber() // they are written as they came
	var data any
	if err := d.Decode(&data); err != nil {
		return err
	}
	p.learn("", data)
	for i, f := range p.fields {
		p.values[i] = nil
		if value, ok := f.in(data); ok {
			p.values[i] = &value
		}
	}
	return p.write(u, at, p.values)
}

func (p *fieldsPrinter) printEntry(u *thing.Update) error { return p.print(u) }

// learn notes the paths that data has, while there are few: for who mistypes
// one.
func (p *fieldsPrinter) learn(above string, data any) {
	const enough = 200
	members, ok := data.(map[string]any)
	if !ok || len(p.known) >= enough || p.updates > enough {
		return
	}
	if p.known == nil {
		p.known = map[string]bool{}
	}
	for name, value := range members {
		p.known[above+name] = true
		p.learn(above+name+".", value)
	}
}

// meant gives what may follow "no update had PATH".
func (p *fieldsPrinter) meant(path string) string {
	meant := didYouMean(path, slices.Collect(maps.Keys(p.known)))
	return string(visible(meant))
}

// lacking gives the fields that no update had; none if there was no update.
func (p *fieldsPrinter) lacking() (paths []string) {
	for _, f := range p.fields {
		if p.updates > 0 && !f.had {
			paths = append(paths, f.path)
		}
	}
	return paths
}

// csv writes a header and gives lines of time, ns and the fields.
func (p *fieldsPrinter) csv(out io.Writer) error {
	w := csv.NewWriter(out)
	w.UseCRLF = true // RFC 4180
	record := []string{"time", "ns"}
	for _, f := range p.fields {
		record = append(record, f.column)
	}
	write := func() error {
		if err := w.Write(record); err != nil {
			return err
		}
		w.Flush()
		return w.Error()
	}
	p.write = func(u *thing.Update, at thing.Micros, values []*any) error {
		record[0], record[1] = string(wire.AppendMicros(nil, at)), string(u.Name)
		for i, v := range values {
			cell, err := cellOf(v)
			if err != nil {
				return err
			}
			record[2+i] = cell
		}
		return write()
	}
	return write()
}

// cellOf writes a value for a table: a text without its quotes, null as
// nothing, what has members as JSON.
func cellOf(v *any) (string, error) {
	if v == nil || *v == nil {
		return "", nil
	}
	if s, ok := (*v).(string); ok {
		return s, nil
	}
	b, err := marshalPlain(*v)
	return string(b), err
}

// json gives an object a line, with null for what is not there.
func (p *fieldsPrinter) json(w io.Writer) func(*thing.Update, thing.Micros, []*any) error {
	var line []byte
	var names [][]byte
	return func(u *thing.Update, at thing.Micros, values []*any) error {
		if names == nil {
			for _, f := range p.fields {
				name, err := marshalPlain(f.column)
				if err != nil {
					return err
				}
				names = append(names, name)
			}
		}
		line = wire.AppendMicros(append(line[:0], `{"time": `...), at)
		line = append(append(append(line, `, "ns": "`...), u.Name...), '"')
		for i, v := range values {
			line = append(append(append(line, ", "...), names[i]...), ": "...)
			if v == nil {
				line = append(line, "null"...)
				continue
			}
			value, err := marshalPlain(*v)
			if err != nil {
				return err
			}
			line = append(line, value...)
		}
		line = append(line, '}', '\n')
		_, err := w.Write(line)
		return err
	}
}

// text gives lines for people: time, Thing, and the fields with their
// names, "-" for what is not there.
func (p *fieldsPrinter) text(w io.Writer, c clock) func(*thing.Update, thing.Micros, []*any) error {
	var line []byte
	return func(u *thing.Update, at thing.Micros, values []*any) error {
		line = append(append(append(line[:0], c.format(at)...), ' '), nameText(u.Name)...)
		for i, v := range values {
			line = append(append(append(line, ' '), visible(p.fields[i].column)...), '=')
			if v == nil {
				line = append(line, '-')
				continue
			}
			value, err := marshalPlain(*v)
			if err != nil {
				return err
			}
			line = appendVisible(line, value)
		}
		if !u.Kept() {
			line = append(line, " (not kept)"...)
		}
		line = append(line, '\n')
		_, err := w.Write(line)
		return err
	}
}

func visible(s string) []byte { return appendVisible(nil, []byte(s)) }

// marshalPlain makes JSON without escapes for HTML.
func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
