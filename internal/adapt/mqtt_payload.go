package adapt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

// payloadData makes data of a message's payload: JSON as it is, a number as
// one, other text as a text, and what is no text as base64.
func payloadData(p []byte) ([]byte, *Skip) {
	if len(p) == 0 {
		return nil, &Skip{Reason: ReasonEmpty, Detail: "the message is empty"}
	}
	data, skipped := Compact(p)
	switch {
	case skipped == nil || skipped.Reason != ReasonNotJSON:
		return data, skipped
	case !utf8.Valid(p):
		return textData(base64.StdEncoding.EncodeToString(p))
	}
	if n := numberOf(strings.Trim(string(p), " \t\r\n")); n != "" {
		return Compact([]byte(n))
	}
	return textData(string(p))
}

func textData(s string) ([]byte, *Skip) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return nil, skip(ReasonInvalid, "%v", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// number has a number's sign, digits, fraction, and exponent.
var number = regexp.MustCompile(`^([+-]?)([0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?$`)

// numberOf makes JSON of a number that is none: +5, .5, 5. and 007.5. What
// printf makes of a number that is none is null. A whole number that begins
// with 0 is a text, as it may be a code; "" is not a number.
func numberOf(s string) string {
	switch strings.TrimLeft(strings.ToLower(s), "+-") {
	case "nan", "inf", "infinity":
		return "null"
	}
	part := number.FindStringSubmatch(s)
	if part == nil {
		return ""
	}
	sign, whole, fraction, exponent := strings.TrimPrefix(part[1], "+"), part[2], part[3], part[4]
	digits := strings.TrimLeft(whole, "0")
	switch {
	case whole == "" && len(fraction) < 2:
		return "" // no digit at all
	case fraction == "" && len(whole) > 1 && whole[0] == '0':
		return ""
	case digits == "":
		digits = "0"
	}
	if fraction == "." {
		fraction = ""
	}
	return sign + digits + fraction + exponent
}
