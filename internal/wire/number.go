package wire

import (
	"math"
	"strconv"

	"tbhist/thing"
)

// AppendTS appends a number of seconds as a JSON number that always shows a
// "." or an exponent: Python clients drop an update whose ts is an integer.
// The digits are the shortest that give the same float64 again, in Python's
// own notation. ts must be finite.
func AppendTS(dst []byte, ts float64) []byte { return appendFloat(dst, ts) }

func appendFloat(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	if abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	if f == math.Trunc(f) { // below 1e16 and whole: an exact int64
		if math.Signbit(f) {
			dst = append(dst, '-')
		}
		dst = strconv.AppendInt(dst, int64(abs), 10)
		return append(dst, '.', '0')
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// AppendMicros appends an instant in seconds, exactly: up to six decimals,
// trailing zeros trimmed, at least one of them kept ("5.0").
func AppendMicros(dst []byte, m thing.Micros) []byte {
	abs := uint64(m)
	if m < 0 {
		dst = append(dst, '-')
		abs = -abs
	}
	dst = strconv.AppendUint(dst, abs/1e6, 10)
	frac := uint32(abs % 1e6)
	var d [7]byte
	d[0] = '.'
	for i := 6; i > 0; i-- {
		d[i] = byte('0' + frac%10)
		frac /= 10
	}
	n := len(d)
	for n > 2 && d[n-1] == '0' {
		n--
	}
	return append(dst, d[:n]...)
}

// overflows tells whether a valid JSON number literal is beyond float64.
// Integer literals never are: their digits are kept, and Python reads them.
func overflows(lit []byte) bool {
	whole, exponent := true, false
	for _, c := range lit {
		switch c {
		case '.':
			whole = false
		case 'e', 'E':
			whole, exponent = false, true
		}
	}
	if whole || !exponent && len(lit) <= 308 {
		return false
	}
	f, _ := strconv.ParseFloat(string(lit), 64) // an overflow gives ±Inf
	return math.IsInf(f, 0)
}
