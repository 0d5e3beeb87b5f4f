package cli

import (
	"math"
	"strings"
	"testing"
	"time"

	"tbhist/thing"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestParseTime(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	now := time.Date(2026, 11, 22, 16, 30, 0, 0, berlin) // CET, +01:00
	utc := func(y int, m time.Month, d, h, min, s int) time.Time {
		return time.Date(y, m, d, h, min, s, 0, time.UTC)
	}
	for s, want := range map[string]time.Time{
		"1h":                            now.Add(-time.Hour),
		"-1h":                           now.Add(-time.Hour),
		"2d":                            now.Add(-48 * time.Hour),
		"1h30m":                         now.Add(-90 * time.Minute),
		"-3600":                         now.Add(-time.Hour),
		"0s":                            now,
		"2026-11-22":                    utc(2026, 11, 21, 23, 0, 0),
		"2026-07-01":                    utc(2026, 6, 30, 22, 0, 0), // CEST, +02:00
		"2026-11-22 14:00":              utc(2026, 11, 22, 13, 0, 0),
		"2026-11-22T14:00":              utc(2026, 11, 22, 13, 0, 0),
		"2026-11-22 14:00:05":           utc(2026, 11, 22, 13, 0, 5),
		"2026-11-22 14:00:05.5":         utc(2026, 11, 22, 13, 0, 5).Add(500 * time.Millisecond),
		"14:00":                         utc(2026, 11, 22, 13, 0, 0),
		"14:00:05":                      utc(2026, 11, 22, 13, 0, 5),
		"00:00":                         utc(2026, 11, 21, 23, 0, 0),
		"2026-11-22T14:00:00Z":          utc(2026, 11, 22, 14, 0, 0),
		"2026-11-22T14:00:00.25+05:00":  utc(2026, 11, 22, 9, 0, 0).Add(250 * time.Millisecond),
		"2026-11-22 14:00:00+05:00":     utc(2026, 11, 22, 9, 0, 0),
		"1423351104":                    time.Unix(1423351104, 0),
		"1423351104.945123":             time.UnixMicro(1423351104945123),
		"0":                             time.Unix(0, 0),
		" 1h ":                          now.Add(-time.Hour),
		"2026-11-22T14:52:02.123+01:00": utc(2026, 11, 22, 13, 52, 2).Add(123 * time.Millisecond), // as text output prints it
	} {
		got, err := parseTime(s, now)
		if err != nil || !got.resolve(now).Time().Equal(want) {
			t.Errorf("parseTime(%q) = %v, %v; want %v", s, got.resolve(now).Time(), err, want)
		}
	}
	for _, s := range []string{
		"", "yesterday", "25:00", "14:60", "2026-13-01", "2026-02-30", "1e9", "NaN", "Inf", "1e99", "9999999999999",
		"12-11-2026", "2026-11-22 2pm", "1h ago", "0x10", "-", "--1h", "-99999999999",
	} {
		if got, err := parseTime(s, now); err == nil {
			t.Errorf("parseTime(%q) = %+v", s, got)
		} else if !strings.Contains(err.Error(), "Unix seconds") {
			t.Errorf("parseTime(%q) does not say what is taken: %v", s, err)
		}
	}
}

// On the days when the clocks change, a local time still is one that the
// clock showed, or the hour beside the one it skipped.
func TestParseTimeDST(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for _, c := range []struct {
		s    string
		now  time.Time
		want []string
	}{
		// 02:00 became 03:00.
		{"01:59", time.Date(2026, 3, 29, 12, 0, 0, 0, berlin), []string{"2026-03-29T00:59:00Z"}},
		{"03:00", time.Date(2026, 3, 29, 12, 0, 0, 0, berlin), []string{"2026-03-29T01:00:00Z"}},
		{"02:30", time.Date(2026, 3, 29, 12, 0, 0, 0, berlin), []string{"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},
		// 03:00 became 02:00: 02:30 was there twice.
		{"02:30", time.Date(2026, 10, 25, 12, 0, 0, 0, berlin), []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"}},
		{"04:00", time.Date(2026, 10, 25, 12, 0, 0, 0, berlin), []string{"2026-10-25T03:00:00Z"}},
		{"2026-10-25", time.Date(2026, 11, 22, 12, 0, 0, 0, berlin), []string{"2026-10-24T22:00:00Z"}},
	} {
		i, err := parseTime(c.s, c.now)
		if err != nil {
			t.Errorf("%s: %v", c.s, err)
			continue
		}
		got := i.at.Time().Format(time.RFC3339)
		if got != c.want[0] && got != c.want[len(c.want)-1] {
			t.Errorf("%s on %s = %s, want %v", c.s, c.now.Format(time.DateOnly), got, c.want)
		}
	}
}

// setLocal makes z the zone that times are shown in for a test.
func setLocal(t *testing.T, z *time.Location) {
	t.Helper()
	old := here
	here = z
	t.Cleanup(func() { here = old })
}

func TestClock(t *testing.T) {
	setLocal(t, zone(t, "Europe/Berlin"))
	at := thing.Micros(1795355522123999) // 2026-11-22
	if got := (clock{}).format(at); got != "2026-11-22T14:52:02.123+01:00" {
		t.Errorf("local: %s", got)
	}
	if got := (clock{utc: true}).format(at); got != "2026-11-22T13:52:02.123Z" {
		t.Errorf("UTC: %s", got)
	}
	setLocal(t, time.UTC)
	if got := (clock{}).format(at); got != "2026-11-22T13:52:02.123+00:00" {
		t.Errorf("local in UTC: %s", got)
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"1h", "2026-11-22 14:00", "14:00", "2026-11-22T14:00:00Z", "-5", "1423351104.945123", "1w2d3h4m5s"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 22, 16, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		i, err := parseTime(s, now)
		if err != nil {
			return
		}
		if i.relative && i.ago < 0 {
			t.Errorf("%q is in the future", s)
		}
		if !i.relative && math.Abs(i.at.Seconds()) > maxSeconds {
			t.Errorf("%q is too far away: %v", s, i.at)
		}
		if _, err := parseTime(strings.TrimSpace(s), now); err != nil {
			t.Errorf("%q is taken with blanks only", s)
		}
		// What is printed is read as the same instant.
		if !i.relative && i.at > 0 && i.at.Seconds() < 2e11 && i.at.Time().Year() < 10000 {
			again, err := parseTime((clock{utc: true}).format(i.at), now)
			if err != nil || again.at != i.at/1000*1000 {
				t.Errorf("%q prints as %s, which is read as %v, %v", s, (clock{utc: true}).format(i.at), again.at, err)
			}
		}
	})
}
