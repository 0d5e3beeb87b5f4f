package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	r := newRates(began)
	for i := range 30 {
		r.count("fast", at(float64(i)/10))
	}
	r.count("slow", at(1))
	for _, c := range []struct {
		seconds    float64
		fast, slow string
	}{
		{3, "10/s", "20/min"},
		{6, "5/s", "10/min"},
		{30, "1/s", "2/min"},
		{59, "30.5/min", "1/min"},
		{64.9, "-", "-"}, // all that is counted is within the last minute
		{500, "-", "-"},
		{1, "-", "-"}, // a clock that was set back
	} {
		if fast, slow := r.of("fast", at(c.seconds)), r.of("slow", at(c.seconds)); fast != c.fast || slow != c.slow {
			t.Errorf("after %v s they are %s and %s, want %s and %s", c.seconds, fast, slow, c.fast, c.slow)
		}
	}
	if got := r.of("none", began); got != "-" {
		t.Error(got)
	}
	for i := range 20 { // a rate goes on over the spans
		for range 100 {
			r.count("steady", at(float64(600+i*5)))
		}
	}
	if got := r.of("steady", at(699.999)); got != "20/s" {
		t.Error(got)
	}
	if got := rateText(100_000, 10*time.Second); got != "10,000/s" {
		t.Error(got)
	}
}

func TestClipColumns(t *testing.T) {
	for _, c := range []struct {
		s    string
		most int
		want string
	}{
		{"door", 4, "door"},
		{"doors", 4, "doo…"},
		{"温度計", 6, "温度計"},
		{"温度計", 5, "温度…"},
		{"温度計", 4, "温…"},
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"x", 0, "…"},
	} {
		if got := clipColumns(c.s, c.most); got != c.want {
			t.Errorf("clipColumns(%q, %d) gives %q, want %q", c.s, c.most, got, c.want)
		}
	}
}

// A screen draws over what it drew, and begins anew when its size is another.
func TestScreen(t *testing.T) {
	var out strings.Builder
	columns, rows := 11, 5
	s := &screen{out: &out, size: func() (int, int, error) { return columns, rows, nil }}
	term := &emulator{}
	for i, want := range []string{"0 10 4|0", "1 10 4|1|1", "2 10 4", "3 19 9|3"} {
		if i == 3 {
			columns, rows = 20, 10
		}
		err := s.draw(func(c, l int) []string {
			all := []string{fmt.Sprint(i, " ", c, " ", l)}
			for range []int{1, 2, 0, 1}[i] {
				all = append(all, fmt.Sprint(i))
			}
			return all
		})
		if err != nil {
			t.Fatal(err)
		}
		term.write(out.String())
		out.Reset()
		if got := strings.Join(term.text(), "|"); got != want {
			t.Errorf("the screen has %q, want %q", got, want)
		}
	}
	columns, rows = 0, 0
	err := s.draw(func(c, l int) []string { return []string{fmt.Sprint(c, l)} })
	if err != nil || !strings.Contains(out.String(), "79 23") {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// emulator is as much of a terminal as a screen needs; it is endless.
type emulator struct {
	rows     [][]rune
	row, col int
}

func (e *emulator) write(s string) {
	for s != "" {
		switch {
		case strings.HasPrefix(s, clearAll):
			*e, s = emulator{}, s[len(clearAll):]
			continue
		case strings.HasPrefix(s, lineUp):
			e.row, s = max(0, e.row-1), s[len(lineUp):]
			continue
		case strings.HasPrefix(s, clearLine), strings.HasPrefix(s, clearBelow):
			e.reach()
			e.rows[e.row] = e.rows[e.row][:min(e.col, len(e.rows[e.row]))]
			if strings.HasPrefix(s, clearBelow) {
				e.rows = e.rows[:e.row+1]
			}
			s = s[len(clearLine):]
			continue
		}
		r := []rune(s)[0]
		s = s[len(string(r)):]
		switch r {
		case '\r':
			e.col = 0
		case '\n':
			e.row++
		default:
			e.reach()
			for len(e.rows[e.row]) <= e.col {
				e.rows[e.row] = append(e.rows[e.row], ' ')
			}
			e.rows[e.row][e.col] = r
			e.col++
		}
	}
}

func (e *emulator) reach() {
	for len(e.rows) <= e.row {
		e.rows = append(e.rows, nil)
	}
}

// text gives the lines up to the last one with text.
func (e *emulator) text() []string {
	var all []string
	for _, row := range e.rows {
		all = append(all, strings.TrimRight(string(row), " "))
	}
	for len(all) > 0 && all[len(all)-1] == "" {
		all = slices.Delete(all, len(all)-1, len(all))
	}
	return all
}
