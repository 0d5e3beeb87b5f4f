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
	// progressAfter is how long a replay takes that shows how far it is.
	progressAfter = time.Second
	// progressEvery is the least between two drawings.
	progressEvery = 200 * time.Millisecond
	// rateOver is the time over which the rate is taken.
	rateOver = 2 * time.Second
)

// progress draws on a terminal how far a replay is: one line, that is drawn
// anew and erased at the end. It is a writer to the same terminal, for what
// else is said: that stands above the line. nil draws nothing.
type progress struct {
	w     io.Writer
	clock clock
	until thing.Micros // the end of what is asked for, 0 if there is none
	limit uint64

	mu    sync.Mutex // guards what follows, and w
	drawn bool
	count uint64
	first mark
	last  mark
	head  uint64
	// rates are taken from the count at an earlier time.
	rated  time.Time
	before uint64
	rate   float64

	end, ended chan struct{}
}

// mark is where one update stands.
type mark struct {
	seq uint64
	at  thing.Micros
}

// start begins to draw, until stop.
func (p *progress) start() {
	p.end, p.ended = make(chan struct{}), make(chan struct{})
	p.rated = time.Now()
	go func() {
		defer close(p.ended)
		late := time.NewTimer(progressAfter)
		defer late.Stop()
		select {
		case <-late.C:
		case <-p.end:
			return
		}
		again := time.NewTicker(progressEvery)
		defer again.Stop()
		for {
			p.draw(time.Now())
			select {
			case <-again.C:
			case <-p.end:
				return
			}
		}
	}()
}

// stop ends the drawing and erases it.
func (p *progress) stop() {
	close(p.end)
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
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

// Write writes something else, above the line.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	return p.w.Write(b)
}

// erase is called under mu.
func (p *progress) erase() {
	if p.drawn {
		p.drawn = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func (p *progress) draw(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
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
	p.drawn = true
	fmt.Fprint(p.w, "\r"+clip(line, p.columns()-1)+"\x1b[K")
}

// columns gives how wide the terminal is.
func (p *progress) columns() int {
	if f, ok := p.w.(*os.File); ok {
		if columns, _, err := terminalSize(f); err == nil && columns > 1 {
			return columns
		}
	}
	return 80
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
