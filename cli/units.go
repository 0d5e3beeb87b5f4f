package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const takenSize = "a size, as 10MiB, 512KiB, 2GiB, 1MB or plain bytes"

// The longer unit first, so that "MiB" is not read as "B".
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"kib", 1 << 10},
	{"mib", 1 << 20},
	{"gib", 1 << 30},
	{"tib", 1 << 40},
	{"kb", 1e3},
	{"mb", 1e6},
	{"gb", 1e9},
	{"tb", 1e12},
	{"k", 1 << 10},
	{"m", 1 << 20},
	{"g", 1 << 30},
	{"t", 1 << 40},
	{"b", 1},
}

// parseSize reads a number of bytes: "10MiB", "1.5GiB", "1MB", "4096". A
// unit of one letter counts in powers of 1,024.
func parseSize(s string) (int64, error) {
	number, factor := strings.ToLower(strings.TrimSpace(s)), int64(1)
	for _, unit := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, unit.name); ok {
			number, factor = strings.TrimSpace(rest), unit.bytes
			break
		}
	}
	if whole, err := strconv.ParseUint(number, 10, 63); err == nil {
		if whole > uint64(math.MaxInt64/factor) {
			return 0, fmt.Errorf("%q is too large", s)
		}
		return int64(whole) * factor, nil
	}
	if !decimal(number) {
		return 0, fmt.Errorf("%q is not %s", s, takenSize)
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not %s", s, takenSize)
	}
	if f *= float64(factor); f >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return int64(f), nil
}

// formatSize writes bytes for people.
func formatSize(n int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.bytes {
			s := strconv.FormatFloat(float64(n)/float64(unit.bytes), 'f', 1, 64)
			return strings.TrimSuffix(s, ".0") + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

const takenDuration = "a duration, as 90s, 15m, 1h, 2d, 2w or 1h30m"

var durationUnits = map[string]time.Duration{
	"ns": time.Nanosecond,
	"us": time.Microsecond,
	"µs": time.Microsecond,
	"ms": time.Millisecond,
	"s":  time.Second,
	"m":  time.Minute,
	"h":  time.Hour,
	"d":  24 * time.Hour,
	"w":  7 * 24 * time.Hour,
}

var errTooLong = errors.New("is longer than can be counted")

// parseDuration reads "90s", "2d", "1h30m" and a plain "0". A day is 24
// hours.
func parseDuration(s string) (time.Duration, error) {
	rest := strings.TrimSpace(s)
	if rest == "0" {
		return 0, nil
	}
	var total float64
	for {
		i := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if i <= 0 || !decimal(rest[:i]) {
			return 0, fmt.Errorf("%q is not %s", s, takenDuration)
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not %s", s, takenDuration)
		}
		rest = rest[i:]
		if i = strings.IndexAny(rest, "0123456789."); i < 0 {
			i = len(rest)
		}
		unit, ok := durationUnits[rest[:i]]
		if !ok {
			return 0, fmt.Errorf("%q is not %s", s, takenDuration)
		}
		if total += n * float64(unit); total >= math.MaxInt64 {
			return 0, fmt.Errorf("%q %w", s, errTooLong)
		}
		if rest = rest[i:]; rest == "" {
			return time.Duration(math.Round(total)), nil
		}
	}
}

// formatDuration writes a duration for people: its two largest units, and
// tenths below ten seconds.
func formatDuration(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	switch {
	case d < 10*time.Second:
		return sign + strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', 1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%s%ds", sign, d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%s%dm%02ds", sign, d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%s%dh%02dm", sign, d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%s%dd%02dh", sign, d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// decimal tells whether s is digits with one dot at most: no sign, exponent,
// hexadecimal or "inf", which ParseFloat would take.
func decimal(s string) bool {
	dots, digits := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			dots++
		case c >= '0' && c <= '9':
			digits++
		default:
			return false
		}
	}
	return digits > 0 && dots <= 1
}
