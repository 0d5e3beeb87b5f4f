package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"unicode/utf8"
)

// scanner reads plain JSON values in one pass and copies them without their
// insignificant white space. It knows no errors: what it is not sure of, it
// declines, for jsontext to judge. What it takes, jsontext takes as well,
// and compact would copy to the same bytes.
//
// Plain is: standard JSON in UTF-8, no lone surrogate escape, no escape in a
// name, no name twice in one object, numbers that are certainly within
// float64, and not too much of anything (the bounds below).
//
// Its methods take the index where something is to begin and give the index
// behind it, or declined.
type scanner struct {
	src []byte
	dst []byte
	run int // src[run:] up to where the scan is, is still to be copied

	keep                bool // values are copied to dst
	maxDepth, maxNumber int

	names []seenName // of all objects being read, outermost first
}

// seenName is the name src[lo:hi] of a member.
type seenName struct {
	hash   uint64
	lo, hi int
}

// Bounds of what is plain. Within them a name is compared with few others,
// and the memory kept for names is 3 KiB.
const (
	plainDepth  = 32
	plainNames  = 128 // in all objects that are open at a time
	plainNumber = 200 // characters; with two digits of exponent, always finite
)

// declined is an index behind the end of every document. A method that is
// given it finds nothing there, and declines too.
const declined = math.MaxInt >> 1

// at tells whether c stands at i.
func (s *scanner) at(i int, c byte) bool { return i < len(s.src) && s.src[i] == c }

// space passes over white space.
func (s *scanner) space(i int) int {
	if i < len(s.src) && s.src[i] <= ' ' {
		return s.spaces(i)
	}
	return i
}

// spaces is space where there is some.
//
//go:noinline
func (s *scanner) spaces(i int) int {
	if s.keep {
		s.copyRun(i)
	}
	s.run = skip(s.src, i)
	return s.run
}

// skip passes over white space that is not in a kept value. Mostly it is
// one space or none.
func skip(src []byte, i int) int {
	if i < len(src) && src[i] == ' ' {
		i++
	}
	if i < len(src) && src[i] <= ' ' {
		return skipMore(src, i)
	}
	return i
}

func skipMore(src []byte, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\t' || src[i] == '\n' || src[i] == '\r') {
		i++
	}
	return i
}

// copyRun copies src[run:end] to dst. Most runs are short: where there is
// room for it, a few bytes too many are copied, which is quicker than to
// copy the right number.
func (s *scanner) copyRun(end int) {
	const block = 32
	lo, at := s.run, len(s.dst)
	if n := end - lo; n <= block && len(s.src)-lo >= block && cap(s.dst)-at >= block {
		dst := s.dst[:at+block]
		*(*[block]byte)(dst[at:]) = [block]byte(s.src[lo:])
		s.dst = dst[:at+n]
		return
	}
	s.dst = append(s.dst, s.src[lo:end]...)
}

// kept reads a value and gives what it copied of it to dst.
func (s *scanner) kept(i, depth int) (end int, v []byte) {
	lo := len(s.dst)
	s.run, s.keep = i, true
	end = s.value(i, depth)
	s.keep = false
	if end == declined {
		return declined, nil
	}
	s.copyRun(end)
	return end, s.dst[lo:len(s.dst):len(s.dst)]
}

// value reads a value. depth is that of a container which begins here.
func (s *scanner) value(i, depth int) int {
	if i >= len(s.src) {
		return declined
	}
	switch s.src[i] {
	case '"':
		return s.text(i+1, true)
	case '{':
		return s.object(i, depth)
	case '[':
		return s.array(i, depth)
	case 'n':
		return s.word(i, "null")
	case 't':
		return s.word(i, "true")
	case 'f':
		return s.word(i, "false")
	}
	return s.number(i)
}

func (s *scanner) word(i int, w string) int {
	if i < len(s.src) && begins(s.src[i:], w) {
		return i + len(w)
	}
	return declined
}

func (s *scanner) array(i, depth int) int {
	if depth > s.maxDepth {
		return declined
	}
	if i = s.space(i + 1); s.at(i, ']') {
		return i + 1
	}
	for {
		i = s.space(s.value(i, depth+1))
		switch {
		case s.at(i, ','):
			i = s.space(i + 1)
		case s.at(i, ']'):
			return i + 1
		default:
			return declined
		}
	}
}

func (s *scanner) object(i, depth int) int {
	if depth > s.maxDepth {
		return declined
	}
	if i = s.space(i + 1); s.at(i, '}') {
		return i + 1
	}
	first := len(s.names)
	var hashes uint64
	for {
		lo := i + 1
		hi, v := s.name(i)
		if v == declined || !s.once(first, lo, hi, &hashes) {
			return declined
		}
		i = s.space(s.value(v, depth+1))
		switch {
		case s.at(i, ','):
			i = s.space(i + 1)
		case s.at(i, '}'):
			s.names = s.names[:first]
			return i + 1
		default:
			return declined
		}
	}
}

// name reads the name of a member with its colon. hi is the index of the
// quote that ends the name, v that of the value.
func (s *scanner) name(i int) (hi, v int) {
	if !s.at(i, '"') {
		return declined, declined
	}
	end := s.text(i+1, false)
	if i = s.space(end); !s.at(i, ':') {
		return declined, declined
	}
	return end - 1, s.space(i + 1)
}

// once adds the name src[lo:hi] to those of an object, which are
// names[first:], unless it is there already. hashes has a bit set for each
// name of the object, and spares most comparisons.
func (s *scanner) once(first, lo, hi int, hashes *uint64) bool {
	if len(s.names) == plainNames {
		return false
	}
	name := s.src[lo:hi]
	hash := hashName(name)
	bit := uint64(1) << (hash >> 58)
	if *hashes&bit != 0 {
		for _, other := range s.names[first:] {
			if other.hash == hash && bytes.Equal(s.src[other.lo:other.hi], name) {
				return false
			}
		}
	}
	*hashes |= bit
	s.names = append(s.names, seenName{hash, lo, hi})
	return true
}

// hashName tells names apart well enough; the upper bits are the best.
func hashName(name []byte) uint64 {
	h := uint64(len(name))
	if len(name) >= 8 {
		h ^= binary.LittleEndian.Uint64(name)
		h ^= bits.RotateLeft64(binary.LittleEndian.Uint64(name[len(name)-8:]), 29)
	} else {
		for _, c := range name {
			h = h<<8 | uint64(c)
		}
	}
	return h * 0x9E3779B97F4A7C15 // 2^64 / golden ratio
}

// text reads a string whose first character is at i.
func (s *scanner) text(i int, escapes bool) int {
	src := s.src
	for {
		for ; len(src)-i >= 8; i += 8 {
			if special := specialBytes(binary.LittleEndian.Uint64(src[i:])); special != 0 {
				i += bits.TrailingZeros64(special) / 8
				break
			}
		}
		if i < len(src) && src[i] == '"' {
			return i + 1
		}
		if i = character(src, i, escapes); i == declined {
			return declined
		}
	}
}

// character passes over one character, or an escape, of a string.
func character(src []byte, i int, escapes bool) int {
	if i >= len(src) {
		return declined
	}
	switch c := src[i]; {
	case c == '\\' && escapes:
		if n := plainEscape(src[i:]); n > 0 {
			return i + n
		}
	case c >= utf8.RuneSelf:
		if r, n := utf8.DecodeRune(src[i:]); r != utf8.RuneError || n > 1 {
			return i + n
		}
	case c >= ' ' && c != '\\':
		return i + 1
	}
	return declined
}

// specialBytes looks at eight characters at once. The lowest bit that is set
// in the result lies in the first of them that is a quote, a backslash, a
// control character or not ASCII; 0 when none is. Bits above that one mean
// nothing, since the subtractions borrow.
func specialBytes(w uint64) uint64 {
	const ones = 0x0101010101010101
	quote := (w ^ ones*'"') - ones
	backslash := (w ^ ones*'\\') - ones
	control := w - ones*' '
	return (quote | backslash | control | w) & (ones * 0x80)
}

// plainEscape gives the length of the escape at the beginning of b, 0 for
// one that is not valid or that is half of a surrogate pair.
func plainEscape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	}
	if unit, ok := escapedUnit(b); !ok || unit >= 0xD800 && unit <= 0xDFFF {
		return 0
	}
	return 6
}

// number reads a number.
func (s *scanner) number(i int) int {
	src, lo := s.src, i
	if src[i] == '-' {
		i++
	}
	whole := i
	if i = digits(src, i); i == whole || src[whole] == '0' && i > whole+1 {
		return declined
	}
	if i < len(src) && src[i] == '.' {
		fraction := i + 1
		if i = digits(src, fraction); i == fraction {
			return declined
		}
	}
	if i < len(src) && src[i]|0x20 == 'e' {
		i++
		if i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}
		exponent := i
		if i = digits(src, exponent); i == exponent || i > exponent+2 {
			return declined
		}
	}
	if i-lo > s.maxNumber {
		return declined
	}
	return i
}

// digits passes over digits.
func digits(src []byte, i int) int {
	for len(src)-i >= 8 {
		other := otherThanDigits(binary.LittleEndian.Uint64(src[i:]))
		if other != 0 {
			return i + bits.TrailingZeros64(other)/8
		}
		i += 8
	}
	for i < len(src) && src[i]-'0' <= 9 {
		i++
	}
	return i
}

// otherThanDigits looks at eight characters at once, and gives of the first
// that is no digit what specialBytes gives of its kind.
func otherThanDigits(w uint64) uint64 {
	const ones = 0x0101010101010101
	w ^= ones * '0' // a digit has become its value
	return (w + ones*(0x80-10) | w) & (ones * 0x80)
}
