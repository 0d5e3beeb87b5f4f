package wire

import (
	"sort"
	"unicode/utf8"
)

// mended is a copy of a document in which what jsontext cannot take, and
// the protocol does, was replaced by what both take.
type mended struct {
	doc  []byte
	lone positions // where lone surrogates were replaced, in doc
}

// positions are ascending offsets.
type positions []int

// within counts the positions in a span.
func (p positions) within(s span) int {
	return sort.SearchInts(p, s.hi) - sort.SearchInts(p, s.lo)
}

func (m *mended) release() {
	m.doc, m.lone = m.doc[:0], m.lone[:0]
	if cap(m.doc) > keepScratch {
		m.doc = nil
	}
	if cap(m.lone) > keepScratch/8 {
		m.lone = nil
	}
}

// mend copies doc to m.doc. The words NaN, Infinity and -Infinity become a
// number that no float64 holds, and are from then on treated as such; lone
// surrogate escapes become \ufffd. Everything else stays, for jsontext to
// judge. It is false for a doc that is not UTF-8.
func (m *mended) mend(doc []byte) bool {
	if !utf8.Valid(doc) {
		return false
	}
	m.doc, m.lone = m.doc[:0], m.lone[:0]
	value := true // a value may begin here: behind "[", ":", "," or nothing
	for i := 0; i < len(doc); {
		switch c := doc[i]; c {
		case '"':
			i = m.mendString(doc, i)
			value = false
			continue
		case ' ', '\t', '\r', '\n':
		case '[', ':', ',':
			value = true
		default:
			if value {
				if n, number := nonfiniteWord(doc[i:]); n > 0 {
					m.doc = append(m.doc, number...)
					i += n
					value = false
					continue
				}
			}
			value = false
		}
		m.doc = append(m.doc, doc[i])
		i++
	}
	return true
}

// nonfiniteWord recognises Python's words at the beginning of b.
func nonfiniteWord(b []byte) (n int, number string) {
	for _, w := range [...]struct{ word, number string }{{"NaN", "1e999"}, {"Infinity", "1e999"}, {"-Infinity", "-1e999"}} {
		if len(b) < len(w.word) || string(b[:len(w.word)]) != w.word {
			continue
		}
		if len(b) > len(w.word) {
			switch b[len(w.word)] {
			case ' ', '\t', '\r', '\n', ',', ']', '}':
			default: // a longer word
				return 0, ""
			}
		}
		return len(w.word), w.number
	}
	return 0, ""
}

// mendString copies the string that begins at doc[i] and gives the index
// behind it.
func (m *mended) mendString(doc []byte, i int) int {
	end := stringEnd(doc, i)
	run := i
	for j := i; j < end; j++ {
		if doc[j] != '\\' {
			continue
		}
		r, ok := escapedUnit(doc[j:end])
		switch {
		case !ok:
			j++ // over what is escaped
			continue
		case r < 0xD800 || r > 0xDFFF:
			j += 5
			continue
		case r < 0xDC00:
			if low, ok := escapedUnit(doc[j+6 : end]); ok && low >= 0xDC00 && low <= 0xDFFF {
				j += 11
				continue
			}
		}
		m.doc = append(m.doc, doc[run:j]...)
		m.lone = append(m.lone, len(m.doc))
		m.doc = append(m.doc, `\ufffd`...)
		j += 5
		run = j + 1
	}
	m.doc = append(m.doc, doc[run:end]...)
	return end
}

// escapedUnit reads a \uXXXX at the beginning of b.
func escapedUnit(b []byte) (unit uint16, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		unit <<= 4
		switch {
		case c >= '0' && c <= '9':
			unit |= uint16(c - '0')
		case c >= 'a' && c <= 'f':
			unit |= uint16(c-'a') + 10
		case c >= 'A' && c <= 'F':
			unit |= uint16(c-'A') + 10
		default:
			return 0, false
		}
	}
	return unit, true
}
