package cli

import (
	"fmt"
	"time"

	urfave "github.com/urfave/cli/v2"
)

// working shows how far a piece of work is that knows how much it has done
// of how much.
type working struct {
	liveLine
	verb   string // "copying"
	amount func(n int64) string

	// Under mu.
	done, total int64
	began       time.Time // of this verb
}

// startWorking shows on a terminal how far something is, unless --quiet, until
// hide is called. What it gives is never nil; amount writes numbers, sizes if
// it is nil.
func (p *program) startWorking(c *urfave.Context, verb string, amount func(int64) string) (w *working, hide func()) {
	if amount == nil {
		amount = formatSize
	}
	w = &working{liveLine: liveLine{w: p.stderr}, verb: verb, amount: amount, began: time.Now()}
	if c.Bool("quiet") || !isTerminal(p.stderr) {
		return w, func() {}
	}
	p.stderr = w
	w.begin(w.text)
	return w, func() {
		w.stop()
		p.stderr = w.w
	}
}

// note tells how much is done, of how much; a total of 0 is not known.
func (w *working) note(done, total int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.total = done, total
}

// next begins another part of the work.
func (w *working) next(verb string, amount func(int64) string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verb, w.amount, w.done, w.total, w.began = verb, amount, 0, 0, time.Now()
}

// text is called under mu.
func (w *working) text(now time.Time) string {
	if w.done <= 0 {
		return w.verb
	}
	line := w.verb + " " + w.amount(w.done)
	passed := now.Sub(w.began)
	if w.total > 0 {
		// How much there is may be an estimate.
		share := min(float64(w.done)/float64(w.total), 1)
		line += fmt.Sprintf(" of %s, %d %%", w.amount(max(w.done, w.total)), int(share*100))
		if left := time.Duration(float64(passed) * (1/share - 1)); share > 0.02 && left >= time.Second {
			line += ", " + formatDuration(left) + " left"
		}
	}
	if seconds := passed.Seconds(); seconds > 0 {
		line += fmt.Sprintf(", %s/s", w.amount(int64(float64(w.done)/seconds)))
	}
	return line
}
