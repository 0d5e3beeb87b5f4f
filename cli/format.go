package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"unicode/utf8"

	"tbhist/internal/wire"
	"tbhist/thing"
)

// formats are the values of --format.
const (
	formatText = "text"
	formatJSON = "json"
	formatCSV  = "csv"
)

// updatePrinter writes updates in one of the formats. It writes what it is
// given at once; buffering is the caller's business.
type updatePrinter interface {
	print(u *thing.Update) error
	// printEntry prints the entry of a snapshot: an update whose Doc is the
	// Thing's documentation URL.
	printEntry(u *thing.Update) error
}

// linePrinter is an updatePrinter that prints updates as the line of the
// wire, which then need not be understood.
type linePrinter interface {
	printLine(line []byte) error
}

// newUpdatePrinter makes a printer. byTS tells the text format to show the
// source's time rather than the broker's.
func newUpdatePrinter(w io.Writer, format string, c clock, byTS bool) (updatePrinter, error) {
	switch format {
	case formatText, "":
		return &textPrinter{w: w, clock: c, byTS: byTS}, nil
	case formatJSON:
		return &jsonPrinter{w: w}, nil
	case formatCSV:
		p := &csvPrinter{w: csv.NewWriter(w)}
		p.w.UseCRLF = true // RFC 4180
		return p, p.header()
	}
	return nil, errFormat(format)
}

func errFormat(format string) error {
	return usagef("--format: %q is none of text, json, csv", format)
}

// textPrinter writes a line for people: time, Thing, data.
type textPrinter struct {
	w     io.Writer
	clock clock
	byTS  bool
	line  []byte
	stamp []byte // the text of the second it is for
	of    int64
}

// appendTime appends what clock writes for an instant; most come within one
// second, in which only the milliseconds differ.
func (p *textPrinter) appendTime(dst []byte, m thing.Micros) []byte {
	second, micros := int64(m)/1e6, int64(m)%1e6
	if micros < 0 {
		second, micros = second-1, micros+1e6
	}
	if p.stamp == nil || p.of != second {
		p.stamp, p.of = []byte(p.clock.format(thing.Micros(second*1e6))), second
	}
	ms := p.stamp[bytes.IndexByte(p.stamp, '.')+1:]
	ms[0], ms[1], ms[2] = byte('0'+micros/100_000), byte('0'+micros/10_000%10), byte('0'+micros/1000%10)
	return append(dst, p.stamp...)
}

func (p *textPrinter) print(u *thing.Update) error { return p.write(u, "") }

func (p *textPrinter) printEntry(u *thing.Update) error { return p.write(u, " (snapshot)") }

func (p *textPrinter) write(u *thing.Update, mark string) error {
	at := u.Received
	if p.byTS {
		at = thing.MicrosOfSeconds(u.TS)
	}
	p.line = p.appendTime(p.line[:0], at)
	p.line = append(append(append(p.line, ' '), nameText(u.Name)...), ' ')
	p.line = appendVisible(p.line, u.Data)
	if !u.Kept() {
		p.line = append(p.line, " (not kept)"...)
	}
	_, err := p.w.Write(append(append(p.line, mark...), '\n'))
	return err
}

// nameText writes a Thing's name for people: the root has none, so it is
// shown as "".
func nameText(n thing.Name) string {
	if n == "" {
		return `""`
	}
	return string(n)
}

// jsonPrinter writes the line of the wire.
type jsonPrinter struct {
	w    io.Writer
	line []byte
}

func (p *jsonPrinter) printLine(line []byte) error {
	p.line = append(append(p.line[:0], line...), '\n')
	_, err := p.w.Write(p.line)
	return err
}

func (p *jsonPrinter) print(u *thing.Update) error {
	p.line = append(wire.AppendUpdate(p.line[:0], u), '\n')
	_, err := p.w.Write(p.line)
	return err
}

func (p *jsonPrinter) printEntry(u *thing.Update) error {
	p.line = append(wire.AppendEntry(p.line[:0], &wire.Entry{Update: *u, Doc: u.Doc}), '\n')
	_, err := p.w.Write(p.line)
	return err
}

// csvPrinter writes RFC 4180. The documentation URL is its text where it is
// a string, as it always should be, and JSON where it is not.
type csvPrinter struct {
	w      *csv.Writer
	record [7]string
}

func (p *csvPrinter) header() error {
	return p.write("seq", "thing_seq", "received", "ts", "ns", "data", "documentation_url")
}

func (p *csvPrinter) write(fields ...string) error {
	copy(p.record[:], fields)
	if err := p.w.Write(p.record[:]); err != nil {
		return err
	}
	p.w.Flush()
	return p.w.Error()
}

func (p *csvPrinter) print(u *thing.Update) error {
	seq, thingSeq := "", ""
	if u.Kept() {
		seq, thingSeq = strconv.FormatUint(u.Seq, 10), strconv.FormatUint(u.ThingSeq, 10)
	}
	return p.write(seq, thingSeq, string(wire.AppendMicros(nil, u.Received)), string(wire.AppendTS(nil, u.TS)),
		string(u.Name), string(u.Data), docText(u.Doc))
}

func (p *csvPrinter) printEntry(u *thing.Update) error { return p.print(u) }

// docText gives the documentation URL for people.
func docText(doc []byte) string {
	var s string
	if len(doc) > 0 && doc[0] == '"' && json.Unmarshal(doc, &s) == nil {
		return s
	}
	return string(bytes.TrimSpace(doc))
}

// appendVisible appends a text with the characters escaped that a terminal
// may obey rather than show: controls, and the marks that turn the direction
// of writing. JSON on one line stays the same value.
func appendVisible(dst, data []byte) []byte {
	for i := 0; i < len(data); {
		if data[i] >= ' ' && data[i] < 0x7f {
			dst = append(dst, data[i])
			i++
			continue
		}
		r, n := utf8.DecodeRune(data[i:])
		if obeyed(r) {
			dst = append(dst, '\\', 'u')
			const hex = "0123456789abcdef"
			for shift := 12; shift >= 0; shift -= 4 {
				dst = append(dst, hex[r>>shift&0xf])
			}
		} else {
			dst = append(dst, data[i:i+n]...)
		}
		i += n
	}
	return dst
}

func obeyed(r rune) bool {
	switch {
	case r < ' ', r == 0x7f, r >= 0x80 && r <= 0x9f: // C0, DEL, C1
	case r == 0x200e, r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
	default:
		return false
	}
	return true
}
