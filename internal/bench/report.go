package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
	"time"
)

// report is all that a run gave.
type report struct {
	Time    time.Time `json:"time"`
	Machine machine   `json:"machine"`
	Quick   bool      `json:"quick,omitempty"`
	Rounds  int       `json:"rounds"`
	Rows    []*result `json:"rows"`
}

// print writes the table, ratios first, and then all of it as one JSON line.
func (r *report) print(w io.Writer, onlyJSON bool) error {
	if !onlyJSON {
		if err := r.table(w); err != nil {
			return err
		}
	}
	return json.NewEncoder(w).Encode(r)
}

func (r *report) table(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s\n", r.Time.Format(time.RFC3339), &r.Machine)
	if r.Quick {
		fmt.Fprintln(w, "QUICK: these figures mean nothing")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nratio, median of %d\tmeasured\twanted\tleast … most\n", r.Rounds)
	for _, row := range r.Rows {
		for _, f := range row.Ratios {
			fmt.Fprintf(t, "%s: %s\t%s\t%s\t%s … %s\n", row.Row, f.Name, short(f.Value), f.wanted(), short(f.Least), short(f.Most))
		}
	}
	fmt.Fprintf(t, "\nfigure\tmeasured\tleast … most\n")
	for _, row := range r.Rows {
		for _, f := range row.Figures {
			fmt.Fprintf(t, "%s: %s\t%s %s\t%s … %s\n", row.Row, f.Name, short(f.Value), f.Unit, short(f.Least), short(f.Most))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%s: took %.0f s; load %.1f, %.0f %% stolen\n", row.Row, row.Seconds, row.Load, row.Steal)
		for _, n := range row.Notes {
			fmt.Fprintf(w, "%s: %s\n", row.Row, n)
		}
	}
	return nil
}

func (f *ratio) wanted() string {
	if f.Wanted == 0 {
		return ""
	}
	sign, reached := "≥", f.Value >= f.Wanted
	if f.AtMost {
		sign, reached = "≤", f.Value <= f.Wanted
	}
	text := sign + " " + short(f.Wanted)
	if !reached {
		text += "  not reached"
	}
	return text
}

// short writes a figure with three digits that mean something.
func short(v float64) string {
	digits := 0
	if a := math.Abs(v); a > 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(a))))
	}
	if digits > 6 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	for i := len(s) - 3; digits == 0 && i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
