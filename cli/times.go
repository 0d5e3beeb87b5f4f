package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

const takenTime = `a time: 1h or 2d (ago), 2026-11-22, '2026-11-22 14:00', 14:00 (today), RFC 3339 or Unix seconds`

// instant is a time as it was given on the command line.
type instant struct {
	// ago, when set, is a time before now: whose now is for the user of the
	// instant to say.
	ago      time.Duration
	relative bool
	at       thing.Micros
}

// maxSeconds bounds times as the wire does.
const maxSeconds = 1e11

// The layouts of a local time, without its zone.
var localLayouts = []string{
	"2006-01-02",
	"2006-01-02 15:04",
	"2006-01-02 15:04:05",
	"2006-01-02T15:04",
	"2006-01-02T15:04:05",
}

// The layouts of a time with its zone; fractions of seconds are taken too.
var zonedLayouts = []string{
	time.RFC3339,
	"2006-01-02 15:04:05Z07:00",
}

// The layouts of a time of day.
var clockLayouts = []string{"15:04", "15:04:05"}

// parseTime reads a time from the command line. now gives today and the
// local zone. A local time that comes twice or never, because the clocks
// change, is one of the two that could be meant.
func parseTime(s string, now time.Time) (instant, error) {
	s = strings.TrimSpace(s)
	if i, ok := parseSeconds(s); ok {
		return i, nil
	}
	if d, err := parseDuration(strings.TrimPrefix(s, "-")); err == nil {
		return instant{ago: d, relative: true}, nil
	}
	for _, layout := range zonedLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return absolute(t)
		}
	}
	for _, layout := range localLayouts {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return absolute(t)
		}
	}
	for _, layout := range clockLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			y, m, d := now.Date()
			return absolute(time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location()))
		}
	}
	return instant{}, fmt.Errorf("%q is not %s", s, takenTime)
}

// parseSeconds reads Unix seconds; negative ones are before now, as on the
// wire.
func parseSeconds(s string) (instant, bool) {
	digits, negative := strings.CutPrefix(s, "-")
	if !decimal(digits) {
		return instant{}, false
	}
	f, err := strconv.ParseFloat(digits, 64)
	switch {
	case err != nil || f > maxSeconds:
		return instant{}, false
	case negative && f >= math.MaxInt64/1e9:
		return instant{}, false
	case negative:
		return instant{ago: time.Duration(math.Round(f * 1e9)), relative: true}, true
	}
	return instant{at: thing.MicrosOfSeconds(f)}, true
}

func absolute(t time.Time) (instant, error) {
	if s := t.Unix(); s > maxSeconds || s < -maxSeconds {
		return instant{}, fmt.Errorf("%s is too far away", t)
	}
	return instant{at: thing.MicrosOf(t)}, nil
}

// resolve gives the time itself, with "ago" counted from now.
func (i instant) resolve(now time.Time) thing.Micros {
	if i.relative {
		return thing.MicrosOf(now.Add(-i.ago))
	}
	return i.at
}

// earliest is the first instant that can be asked for: on the wire, what is
// not above 0 counts from now. Nothing was received before it.
const earliest thing.Micros = 1

// bound gives the time as a bound of a replay: times before now stay that,
// so that the broker's clock counts.
func (i instant) bound() client.Bound {
	if i.relative {
		return client.Ago(i.ago)
	}
	return client.AtMicros(max(i.at, earliest))
}

// here is the zone that times are shown in. Tests change it, rather than
// time.Local, which whoever asks for the time reads.
var here = time.Local

// clock writes times for people: with offset and milliseconds.
type clock struct{ utc bool }

func (c clock) format(m thing.Micros) string {
	// Milliseconds are cut, not rounded, as Format does: a time printed is
	// never in the future.
	if c.utc {
		return m.Time().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return m.Time().In(here).Format("2006-01-02T15:04:05.000-07:00")
}
