package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"tbhist/client"
	"tbhist/thing"
)

const (
	// progressAfter is how long something takes that shows how far it is.
	progressAfter = time.Second
	// progressEvery is the least between two drawings.
	progressEvery = 200 * time.Millisecond
	// rateOver is the time over which the rate is taken.
	rateOver = 2 * time.Second
)

// liveLine draws on a terminal how far something is: one line, that is drawn
// anew and erased at the end. It is a writer to the same terminal, for what
// else is said: that stands above the line.
type liveLine struct {
	w io.Writer

	mu    sync.Mutex // guards what follows, w, and what text reads
	drawn bool

	end, ended chan struct{}
}

// begin begins to draw what text gives, until stop. text is called under mu.
func (l *liveLine) begin(text func(now time.Time) string) {
	l.end, l.ended = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(l.ended)
		late := time.NewTimer(progressAfter)
		defer late.Stop()
		select {
		case <-late.C:
		case <-l.end:
			return
		}
		again := time.NewTicker(progressEvery)
		defer again.Stop()
		for {
			l.draw(text, time.Now())
			select {
			case <-again.C:
			case <-l.end:
				return
			}
		}
	}()
}

// stop ends the drawing and erases it.
func (l *liveLine) stop() {
	close(l.end)
	<-l.ended
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
}

// Write writes something else, above the line.
func (l *liveLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
	return l.w.Write(b)
}

// erase is called under mu.
func (l *liveLine) erase() {
	if l.drawn {
		l.drawn = false
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}

func (l *liveLine) draw(text func(now time.Time) string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := text(now)
	l.drawn = true
	fmt.Fprint(l.w, "\r"+clip(line, l.columns()-1)+"\x1b[K")
}

// columns gives how wide the terminal is.
func (l *liveLine) columns() int {
	if f, ok := l.w.(*os.File); ok {
		if columns, _, err := terminalSize(f); err == nil && columns > 1 {
			return columns
		}
	}
	return 80
}

// progress shows how far a replay is. nil shows nothing.
type progress struct {
	liveLine
	clock clock
	until thing.Micros // the end of what is asked for, 0 if there is none
	limit uint64

	// Under mu.
	count uint64
	first mark
	last  mark
	head  uint64
	// rates are taken from the count at an earlier time.
	rated  time.Time
	before uint64
	rate   float64
}

// mark is where one update stands.
type mark struct {
	seq uint64
	at  thing.Micros
}

// start begins to draw, until stop.
func (p *progress) start() {
	p.rated = time.Now()
	p.begin(p.text)
}

// note notes an update of an answer that goes up to head, as far as is known.
func (p *progress) note(u *client.Update, head uint64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = mark{u.Seq, u.Received}
	if p.count == 0 {
		p.first = p.last
	}
	p.count++
	p.head = max(p.head, head)
}

// text is called under mu.
func (p *progress) text(now time.Time) string {
	if passed := now.Sub(p.rated); passed >= rateOver || p.rate == 0 {
		p.rate = float64(p.count-p.before) / passed.Seconds()
		if passed >= rateOver {
			p.rated, p.before = now, p.count
		}
	}
	line := updates(p.count)
	if p.count > 0 {
		line += fmt.Sprintf(", %s/s, at %s", grouped(uint64(p.rate+0.5)), p.clock.format(p.last.at))
	}
	if share := p.share(); share > 0 {
		line += fmt.Sprintf(", %d %%", int(share*100))
	}
	return line
}

// isTerminal tells whether w is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, _, err := terminalSize(f)
	return err == nil
}

// share gives how much of the answer came, from 0 to 1; 0 if that is not
// known. Under mu.
func (p *progress) share() (share float64) {
	switch {
	case p.count == 0:
		return 0
	case p.until > p.first.at:
		share = float64(p.last.at-p.first.at) / float64(p.until-p.first.at)
	case p.head > p.first.seq:
		share = float64(p.last.seq-p.first.seq) / float64(p.head-p.first.seq)
	}
	if p.limit > 0 {
		share = max(share, float64(p.count)/float64(p.limit))
	}
	return min(share, 1)
}
