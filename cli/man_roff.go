package cli

import (
	"fmt"
	"strings"
)

// roff collects a manual page in the man macros, as groff and mandoc read
// them. Texts are escaped here and nowhere else.
type roff struct{ strings.Builder }

// macro writes a request with arguments, each of which is one text.
func (r *roff) macro(name string, args ...string) {
	r.WriteString("." + name)
	for _, a := range args {
		r.WriteString(` "` + roffText(a) + `"`)
	}
	r.WriteByte('\n')
}

// line writes a text that the page's width may break anew.
func (r *roff) line(s string) {
	s = roffText(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s // else it were a request
	}
	r.WriteString(s + "\n")
}

// text writes the text of a command's help: paragraphs, and examples, whose
// lines are indented.
func (r *roff) text(s string) {
	example, open := false, true
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\n")
		if line == "" {
			open = false
			continue
		}
		rest, indented := strings.CutPrefix(line, "  ")
		if example && !indented {
			r.exampleEnd()
			example, open = false, false
		}
		if indented && !example {
			r.exampleBegin()
			example, open = true, true
		}
		if !open {
			if example {
				r.WriteByte('\n')
			} else {
				r.macro("PP")
			}
			open = true
		}
		if indented {
			line = rest
		}
		r.line(line)
	}
	if example {
		r.exampleEnd()
	}
}

// exampleBegin starts lines that stay as they are.
func (r *roff) exampleBegin() {
	r.macro("PP")
	r.WriteString(".RS 4\n.nf\n")
}

func (r *roff) exampleEnd() { r.WriteString(".fi\n.RE\n") }

// item writes an entry of a list: a term in bold with what it takes in
// italics, and its text.
func (r *roff) item(term, value, text string) {
	r.macro("TP")
	head := `\fB` + roffText(term) + `\fR`
	if value != "" {
		head += ` \fI` + roffText(value) + `\fR`
	}
	r.WriteString(head + "\n")
	r.line(text)
}

// roffText escapes a text: what roff would read as its own language, and
// what it would print as another character than was written. A hyphen is
// always the one that can be pasted into a shell.
func roffText(s string) string {
	var out strings.Builder
	for _, c := range s {
		switch c {
		case '\\':
			out.WriteString(`\e`)
		case '-':
			out.WriteString(`\-`)
		case '\'':
			out.WriteString(`\(aq`)
		case '"':
			out.WriteString(`\(dq`)
		case '`':
			out.WriteString(`\(ga`)
		case '^':
			out.WriteString(`\(ha`)
		case '~':
			out.WriteString(`\(ti`)
		default:
			if c < ' ' || c > '~' {
				fmt.Fprintf(&out, `\[u%04X]`, c)
			} else {
				out.WriteRune(c)
			}
		}
	}
	return out.String()
}
