package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/thing"
)

// watchEvery is how often the table is drawn anew.
const watchEvery = time.Second

// watchThings shows the table of "things --watch" until interrupted.
func (p *program) watchThings(c *urfave.Context, cl *client.Client, name thing.Name) error {
	for _, other := range []string{"at", "wide"} {
		if c.IsSet(other) {
			return usagef("--watch shows what comes in; leave --%s out", other)
		}
	}
	screen, err := newScreen(p.stdout)
	if err != nil {
		return err
	}
	d := cl.Directory()
	if name != "" {
		d = cl.DirectoryOf(name)
	}
	w := &watching{directory: d, place: cl.URL(), rates: newRates(p.now())}
	if _, err := d.Root().Subscribe(func(e client.ThingEvent) { w.rates.count(e.Thing.Name(), p.now()) }, client.WithTree()); err != nil {
		return err
	}
	return interruptible(true, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		err := p.redraw(ctx, w, screen)
		cancel()
		if why := <-ended; err == nil && !errors.Is(why, context.Canceled) {
			return why
		}
		return err
	})
}

// redraw draws again and again, from the first snapshot on.
func (p *program) redraw(ctx context.Context, w *watching, s *screen) error {
	changed := make(chan struct{}, 1)
	stop := w.directory.OnState(func(client.DirectoryState) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	if err := w.directory.Ready(ctx); err != nil {
		return err
	}
	resized := make(chan os.Signal, 1)
	defer notifyResize(resized)()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := s.draw(func(columns, lines int) []string { return w.lines(p.now(), columns, lines) }); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-changed:
		case <-resized:
		case <-ctx.Done():
			return s.leave()
		}
	}
}

// screen is a terminal on which some lines are drawn over and over. It is in
// its usual mode, and what stood on it before stays.
type screen struct {
	out            io.Writer
	size           func() (columns, lines int, err error)
	columns, lines int // when it was last drawn
	drawn          int // lines; the cursor is below them
}

// newScreen makes a screen of standard output. The error is a usage error if
// that is no terminal.
func newScreen(out io.Writer) (*screen, error) {
	file, ok := out.(*os.File)
	if ok {
		_, _, err := terminalSize(file)
		ok = err == nil
	}
	if !ok || os.Getenv("TERM") == "dumb" {
		return nil, usagef("--watch draws on a terminal, and this is none: see tbhist tail for what comes in, tbhist things for what there is")
	}
	return &screen{out: file, size: func() (int, int, error) { return terminalSize(file) }}, nil
}

// What the terminal is told (ECMA-48).
const (
	lineUp     = "\x1b[A"
	clearBelow = "\x1b[J"
	clearLine  = "\x1b[K" // from the cursor on
	clearAll   = "\x1b[H\x1b[2J"
)

// draw puts lines in the place of those drawn before: all with one write, each
// over the old one, so that nothing flickers. lines is asked for as many as
// fit, each of at most so many columns.
func (s *screen) draw(lines func(columns, lines int) []string) error {
	columns, rows, err := s.size()
	if err != nil {
		return err
	}
	if columns == 0 || rows == 0 { // it does not tell
		columns, rows = 80, 24
	}
	var b []byte
	switch {
	case s.drawn > 0 && (columns != s.columns || rows != s.lines):
		b = append(b, clearAll...) // where the lines are now, nobody knows
	default:
		b = append(b, '\r')
		for range s.drawn {
			b = append(b, lineUp...)
		}
	}
	// The last column stays free: some terminals wrap there, some do not.
	all := lines(columns-1, rows-1)
	for _, line := range all {
		b = append(append(append(b, line...), clearLine...), '\r', '\n')
	}
	s.columns, s.lines, s.drawn = columns, rows, len(all)
	_, err = s.out.Write(append(b, clearBelow...))
	return err
}

// leave makes the terminal ready for who comes next: the table stays, and
// nothing stands below it, such as the ^C.
func (s *screen) leave() error {
	_, err := io.WriteString(s.out, "\r"+clearBelow)
	return err
}
