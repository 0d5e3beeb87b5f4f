package cli

import (
	"bufio"
	"context"

	"tbhist/client"
)

// follow prints history and then what comes, over all reconnects. Lines are
// flushed when nothing more has come in.
func (p *program) follow(ctx context.Context, cl *client.Client, q client.Query, out *bufio.Writer, printer updatePrinter, strict bool) error {
	var missing uint64 // not reported yet
	exact := true
	for event, err := range cl.Follow(ctx, q) {
		if err != nil {
			return flushed(out, err)
		}
		switch event.Kind {
		case client.Updated:
			if err := printer.print(&event.Update); err != nil {
				return err
			}
		case client.Gap:
			missing, exact = missing+event.Missing, exact && event.MissingExact
		case client.CaughtUp:
		case client.Disconnected:
			p.sayLost(event.Err)
		case client.Reconnected:
			p.sayBack()
		case client.NewEpoch:
			say(p.stderr, "the broker has another history than before (%s): it follows from its beginning", event.Epoch)
		}
		if event.More {
			continue
		}
		if err := reportEvicted(p.stderr, missing, exact, strict); err != nil {
			return flushed(out, err)
		}
		missing, exact = 0, true
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return out.Flush()
}

func (p *program) sayLost(err error) { say(p.stderr, "%v; trying again until interrupted", err) }

func (p *program) sayBack() { say(p.stderr, "connected again") }

// updates counts them in words.
func updates(n uint64) string {
	if n == 1 {
		return "1 update"
	}
	return grouped(n) + " updates"
}
