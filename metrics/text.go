package metrics

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
)

// textBytes is how much text is written at a time.
const textBytes = 64 << 10

// textWriter writes the text format. The first error stays.
type textWriter struct {
	w   io.Writer
	buf []byte // not yet written
	err error
}

// head begins a family. What is documented here has nothing to escape.
func (p *textWriter) head(name, help, kind string) {
	p.buf = fmt.Appendf(p.buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// single writes the only series of a family.
func (p *textWriter) single(name string, v int) {
	p.buf = fmt.Appendf(p.buf, "%s %d\n", name, v)
}

// room writes when there is much to write.
func (p *textWriter) room() {
	if len(p.buf) >= textBytes {
		p.flush()
	}
}

// flush writes, and lets those go first who wait for a CPU: a scrape is in
// no hurry, updates are.
func (p *textWriter) flush() {
	if p.err == nil {
		_, p.err = p.w.Write(p.buf)
	}
	p.buf = p.buf[:0]
	runtime.Gosched()
}

func appendFloat(dst []byte, v float64) []byte { return strconv.AppendFloat(dst, v, 'g', -1, 64) }

// appendLabel appends the value of a label as it stands between quotes.
func appendLabel(dst []byte, value string) []byte {
	for {
		i := strings.IndexAny(value, "\\\"\n")
		if i < 0 {
			return append(dst, value...)
		}
		dst = append(append(dst, value[:i]...), '\\')
		if value[i] == '\n' {
			dst = append(dst, 'n')
		} else {
			dst = append(dst, value[i])
		}
		value = value[i+1:]
	}
}
