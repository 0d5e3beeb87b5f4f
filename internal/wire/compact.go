package wire

import "bytes"

// compact appends the JSON value v, which jsontext has accepted, without
// its insignificant white space. Digits, escapes and the order of members
// stay. Numbers beyond float64 become null and are counted; one that is
// longer than the limit sets d.long.
func (d *Decoder) compact(dst, v []byte, nonfinite *int) []byte {
	run := 0 // v[run:i] is still to be copied
	for i := 0; i < len(v); {
		switch c := v[i]; {
		case c == '"':
			i = stringEnd(v, i)
		case c == ' ', c == '\t', c == '\n', c == '\r':
			dst = append(dst, v[run:i]...)
			i++
			run = i
		case c == '-', c >= '0' && c <= '9':
			end := numberEnd(v, i)
			switch {
			case end-i > d.limits.MaxNumber:
				d.long = true
			case end-i > 4 && overflows(v[i:end]): // 1e999 is the shortest
				dst = append(dst, v[run:i]...)
				dst = append(dst, "null"...)
				*nonfinite++
				run = end
			}
			i = end
		default:
			i++
		}
	}
	return append(dst, v[run:]...)
}

// stringEnd gives the index behind the string that begins at v[i].
func stringEnd(v []byte, i int) int {
	for i++; i < len(v); i++ {
		switch v[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(v)
}

// numberEnd gives the index behind the number that begins at v[i].
func numberEnd(v []byte, i int) int {
	for ; i < len(v); i++ {
		switch c := v[i]; {
		case c >= '0' && c <= '9', c == '.', c == '-', c == '+', c == 'e', c == 'E':
		default:
			return i
		}
	}
	return i
}

// tooDeep tells whether the document is nested deeper than the limit. The
// brackets are only followed where there are enough of them.
func (d *Decoder) tooDeep(doc []byte) bool {
	if bytes.Count(doc, []byte{'['})+bytes.Count(doc, []byte{'{'}) <= d.limits.MaxDepth {
		return false
	}
	depth := 0
	for i := 0; i < len(doc); {
		switch doc[i] {
		case '"':
			i = stringEnd(doc, i)
			continue
		case '[', '{':
			if depth++; depth > d.limits.MaxDepth {
				return true
			}
		case ']', '}':
			depth--
		}
		i++
	}
	return false
}
