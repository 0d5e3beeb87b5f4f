package wire

import "strconv"

// Truthy tells whether a documentation URL (compact JSON, nil for null)
// replaces the one remembered: anything but null, "", a number that is
// zero, false, [] and {}.
func Truthy(doc []byte) bool {
	switch string(doc) {
	case "", "null", `""`, "false", "[]", "{}":
		return false
	}
	if c := doc[0]; c != '-' && (c < '0' || c > '9') {
		return true
	}
	for _, c := range doc {
		switch {
		case c >= '1' && c <= '9':
			f, err := strconv.ParseFloat(string(doc), 64)
			return err != nil || f != 0 // 1e-400 is zero
		case c == 'e', c == 'E':
			return false
		}
	}
	return false
}
