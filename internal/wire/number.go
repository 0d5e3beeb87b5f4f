package wire

import (
	"math"
	"math/bits"
	"strconv"

	"tbhist/thing"
)

// AppendTS appends a number of seconds as a JSON number that always shows a
// "." or an exponent: Python clients drop an update whose ts is an integer.
// The digits are the shortest that give the same float64 again, in Python's
// own notation. ts must be finite.
func AppendTS(dst []byte, ts float64) []byte {
	// Of numbers below 2^32 no two with up to six decimals are the same
	// float64: if ts is one of those, its digits are the shortest there are.
	if abs := math.Abs(ts); abs >= 1e-4 && abs < 1<<32 {
		if m := thing.MicrosOfSeconds(ts); float64(m)/1e6 == ts {
			return AppendMicros(dst, m)
		}
	}
	return appendFloat(dst, ts)
}

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
	whole := abs / 1e6
	frac := uint(abs - whole*1e6)
	dst = appendUint(dst, whole)
	high, middle := frac/1e4, frac/100%100
	low := frac % 100
	dst = append(dst, '.',
		twoDigits[2*high], twoDigits[2*high+1],
		twoDigits[2*middle], twoDigits[2*middle+1],
		twoDigits[2*low], twoDigits[2*low+1])
	n := len(dst)
	for range 5 {
		if dst[n-1] != '0' {
			break
		}
		n--
	}
	return dst[:n]
}

// twoDigits has the numbers from 00 to 99 one behind the other.
const twoDigits = "00010203040506070809" +
	"10111213141516171819" +
	"20212223242526272829" +
	"30313233343536373839" +
	"40414243444546474849" +
	"50515253545556575859" +
	"60616263646566676869" +
	"70717273747576777879" +
	"80818283848586878889" +
	"90919293949596979899"

// appendUint is strconv.AppendUint for base 10 without a copy of the digits.
func appendUint(dst []byte, n uint64) []byte {
	i := len(dst) + digitsOf(n)
	if i <= cap(dst) {
		dst = dst[:i]
	} else {
		dst = append(dst, make([]byte, i-len(dst))...)
	}
	for n >= 1e4 {
		q := n / 1e4
		r := uint(n - 1e4*q)
		high, low := r/100, r%100
		i -= 4
		d := dst[i : i+4 : i+4]
		d[0], d[1] = twoDigits[2*high], twoDigits[2*high+1]
		d[2], d[3] = twoDigits[2*low], twoDigits[2*low+1]
		n = q
	}
	if n >= 100 {
		r := n % 100
		i -= 2
		dst[i], dst[i+1] = twoDigits[2*r], twoDigits[2*r+1]
		n /= 100
	}
	if n >= 10 {
		dst[i-2], dst[i-1] = twoDigits[2*n], twoDigits[2*n+1]
	} else {
		dst[i-1] = byte('0' + n)
	}
	return dst
}

// digitsOf gives how many decimal digits n has.
func digitsOf(n uint64) int {
	// 1233/4096 is a little over log10(2).
	k := (bits.Len64(n|1) * 1233) >> 12
	if n|1 >= powersOf10[k] {
		k++
	}
	return k
}

var powersOf10 = func() (p [20]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

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
