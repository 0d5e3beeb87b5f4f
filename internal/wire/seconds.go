package wire

import (
	"math"
	"strconv"
)

// parseSeconds gives the float64 nearest to a valid JSON number; ok is false
// for one beyond ±MaxTS.
func parseSeconds(lit []byte) (s float64, ok bool) {
	s, ok = parseShort(lit)
	if !ok {
		var err error
		if s, err = strconv.ParseFloat(string(lit), 64); err != nil {
			return 0, false
		}
	}
	return s, math.Abs(s) <= MaxTS
}

// tens are the powers of ten that float64 holds exactly.
var tens = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10,
	1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// parseShort reads a valid JSON number of few digits and no exponent. It is
// exact: the digits and the power of ten are both float64s, and IEEE 754
// rounds their quotient as it rounds the number that was written.
func parseShort(lit []byte) (f float64, ok bool) {
	digits := lit
	if lit[0] == '-' {
		digits = lit[1:]
	}
	if len(digits) > 18 { // so that n does not overflow
		return 0, false
	}
	var n uint64
	decimals := 0
	for i, c := range digits {
		switch {
		case c == '.':
			decimals = len(digits) - 1 - i
		case c < '0' || c > '9':
			return 0, false
		default:
			n = n*10 + uint64(c-'0')
		}
	}
	if n > 1<<53 {
		return 0, false
	}
	f = float64(n) / tens[decimals]
	if lit[0] == '-' {
		f = -f // -0 as well
	}
	return f, true
}
