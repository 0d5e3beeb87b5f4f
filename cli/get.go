package cli

import (
	"context"
	"fmt"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/thing"
)

func (p *program) getCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "get",
		Usage:     "print the data of one Thing",
		ArgsUsage: "NAMESPACE",
		Description: `Prints the newest data of a Thing, or what it was at a time:

  tbhist get spacemon.electronics
  tbhist get spacemon.electronics --at 14:00
  tbhist get spacemon.electronics | jq .luminance

The exit code is 1 if there is no such Thing. The root Thing is ''.`,
		Flags: []urfave.Flag{
			text("at", "", "`TIME` in the past: 1h (ago), 14:00, '2026-11-22 14:00', …"),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		},
		Action: p.get,
	}
}

func (p *program) get(c *urfave.Context) error {
	if c.NArg() != 1 {
		return usagef("get takes the namespace of one Thing; tbhist things lists them")
	}
	name, err := parseNS(c.Args().First())
	if err != nil {
		return usagef("%v", err)
	}
	q := client.ThingsQuery{Name: name, Alone: true}
	if q.At, err = p.at(c); err != nil {
		return err
	}
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	return interruptible(false, func(ctx context.Context) error {
		for entry, err := range cl.Things(ctx, q) {
			switch {
			case err != nil:
				return err
			case entry.Unknown:
				return fmt.Errorf("what %s was then is no longer in history; the limits of serve --ring and --keep tell how much is", nameText(name))
			}
			_, err := fmt.Fprintf(p.stdout, "%s\n", appendVisible(nil, entry.Update.Data))
			return err
		}
		if q.At != nil {
			return fmt.Errorf("there was no Thing %s then; tbhist things --at lists those there were", nameText(name))
		}
		return fmt.Errorf("there is no Thing %s with data; tbhist things lists those there are", nameText(name))
	})
}

// at reads --at, as a time by this machine's clock; nil for now.
func (p *program) at(c *urfave.Context) (*thing.Micros, error) {
	t, ok, err := p.timeOf(c, "at")
	if err != nil || !ok {
		return nil, err
	}
	at := max(t.resolve(p.now()), earliest)
	return &at, nil
}
