package cli

import (
	"bufio"
	"context"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
)

func (p *program) tailCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "tail",
		Usage: "print updates as they come in, until interrupted",
		Description: `Prints the live feed, of everything or of a Thing and all below it:

  tbhist tail
  tbhist tail --ns shop --format json
  tbhist tail --snapshots    the latest of each Thing first, and every 15 s

Entries of snapshots are marked "(snapshot)" as text, and have no "type" as
JSON.

A connection that is lost is made again. What was missed is counted on stderr,
as far as that is known.

For what came before, see tbhist replay --follow, which misses nothing.`,
		Flags: []urfave.Flag{
			nsFlag(),
			toggle("snapshots", false, "print the entries of snapshots too"),
			formatFlag(),
			utcFlag(),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		},
		Action: noArgs(p.tail),
	}
}

func (p *program) tail(c *urfave.Context) error {
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	q := client.FeedQuery{Snapshots: c.Bool("snapshots")}
	if q.Name, err = nsOf(c); err != nil {
		return err
	}
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	printer, err := newUpdatePrinter(out, c.String("format"), clock{c.Bool("utc")}, false)
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil { // the head of CSV
		return err
	}
	return interruptible(true, func(ctx context.Context) error {
		for m, err := range cl.Feed(ctx, q) {
			if err != nil {
				return flushed(out, err)
			}
			p.sayFeed(&m)
			show := printer.print
			if m.Snapshot {
				show = printer.printEntry
			}
			for i := range m.Updates {
				if err := show(&m.Updates[i]); err != nil {
					return err
				}
			}
			if !m.More {
				if err := out.Flush(); err != nil {
					return err
				}
			}
		}
		return out.Flush()
	})
}

// sayFeed tells what became of the connection, and what it did not bring.
func (p *program) sayFeed(m *client.FeedMessage) {
	if m.Disconnected != nil {
		p.sayLost(m.Disconnected)
	}
	if m.Reconnected {
		p.sayBack()
	}
	if m.NewEpoch {
		say(p.stderr, "the broker has another history than before (%s)", m.Epoch)
	}
	if m.Missed > 0 {
		say(p.stderr, "missed %s; tbhist replay may have more", updates(m.Missed))
	}
	if m.Skipped > 0 {
		say(p.stderr, "skipped %s that were taken too slowly; tbhist replay may have more", updates(m.Skipped))
	}
}
