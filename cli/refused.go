package cli

import (
	"context"
	"strconv"

	urfave "github.com/urfave/cli/v2"
)

func (p *program) refusedCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "refused",
		Usage: "list the last messages that the broker refused, with the reasons",
		Description: `Lists the last 100 messages that were not taken, oldest first: when, from
whom, why, how many more like it came, what would have been taken, and how
the message began.

  tbhist refused`,
		Flags:  []urfave.Flag{utcFlag(), brokerFlag(), zoneFlag(), dnsFlag()},
		Action: noArgs(p.refused),
	}
}

func (p *program) refused(c *urfave.Context) error {
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	times := clock{c.Bool("utc")}
	return interruptible(false, func(ctx context.Context) error {
		refusals, err := cl.Refused(ctx)
		if err != nil {
			return err
		}
		if len(refusals) == 0 {
			say(p.stderr, "no message was refused since the broker was started (refused connections are counted in its metrics)")
			return nil
		}
		t := &table{
			head:  []string{"TIME", "SOURCE", "VIA", "REASON", "MORE", "TAKEN WOULD BE", "MESSAGE"},
			right: []bool{false, false, false, false, true},
		}
		for _, r := range refusals {
			t.add(times.format(r.Time), r.Source, r.Transport, r.Reason,
				strconv.FormatUint(r.Suppressed, 10), r.Taken, string(appendVisible(nil, []byte(r.Sample))))
		}
		return t.write(p.stdout)
	})
}
