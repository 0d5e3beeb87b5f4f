package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tbhist/client"
)

// watching is what "things --watch" shows.
type watching struct {
	directory *client.Directory
	place     string // of the broker, before one is found
	rates     *rates
	widths    [3]int // of the columns before the data: they never shrink
}

// lines makes the lines of a screen: how the connection is, a head, and as
// many Things as there is room for.
func (w *watching) lines(now time.Time, columns, most int) []string {
	var things []client.Thing
	for t := range w.directory.Root().Walk() {
		if t.HasData() {
			things = append(things, t)
		}
	}
	lines := []string{w.status(len(things))}
	shown := things
	if rest := most - 2; len(shown) > rest {
		shown = shown[:min(max(0, rest-1), len(shown))] // a line tells of the others
	}
	rows := [][4]string{{"THING", "AGE", "RATE", "DATA"}}
	for _, t := range shown {
		e, _ := t.Latest()
		u := &e.Update
		rows = append(rows, [4]string{
			clipColumns(nameText(u.Name), max(columns/2, 1)), age(now, u.Received.Time()), w.rates.of(u.Name, now),
			string(appendVisible(nil, u.Data[:min(len(u.Data), utf8.UTFMax*columns)])),
		})
	}
	for _, row := range rows {
		for i := range w.widths {
			w.widths[i] = max(w.widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range rows {
		lines = append(lines, fmt.Sprintf("%-*s  %*s  %*s  %s", w.widths[0], row[0], w.widths[1], row[1], w.widths[2], row[2], row[3]))
	}
	if more := len(things) - len(shown); more > 0 {
		lines = append(lines, fmt.Sprintf("… and %s more: --ns shows a part", grouped(uint64(more))))
	}
	for i := range lines {
		lines[i] = strings.TrimRight(clipColumns(lines[i], columns), " ")
	}
	return lines[:min(len(lines), max(most, 1))]
}

// status tells how the connection is.
func (w *watching) status(things int) string {
	s := w.directory.State()
	if s.Broker == "" {
		s.Broker = w.place
	}
	counted := grouped(uint64(things)) + " Things"
	if things == 1 {
		counted = "1 Thing"
	}
	if s.NoRoom > 0 {
		counted += " (" + updates(s.NoRoom) + " had no room in memory)"
	}
	switch {
	case !s.Connected && s.Err != nil:
		why := strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' ' // peers may write what they like
			}
			return r
		}, s.Err.Error())
		return fmt.Sprintf("%s, NOT CONNECTED: %s; trying again", counted, why)
	case s.Degraded:
		return fmt.Sprintf("%s at %s, which cannot write to its disk", counted, s.Broker)
	}
	return fmt.Sprintf("%s at %s", counted, s.Broker)
}

// clipColumns is clip for columns of a terminal: some characters take two,
// and some none.
func clipColumns(s string, most int) string {
	columns, end := 0, 0 // end is where the ellipsis fits
	for i, r := range s {
		if columns < most {
			end = i
		}
		if columns += columnsOf(r); columns > most {
			return s[:end] + "…"
		}
	}
	return s
}

func columnsOf(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f680 && r <= 0x1f6ff, r >= 0x1f900 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}
