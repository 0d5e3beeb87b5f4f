package cli

import (
	"context"
	"fmt"

	urfave "github.com/urfave/cli/v2"
)

func (p *program) healthCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "health",
		Usage: "tell whether the broker is ready and well; exit code 0 or 1",
		Description: `Asks the broker's HTTP port, as a container's health check may:

  tbhist health && echo well`,
		Flags:  []urfave.Flag{brokerFlag(), zoneFlag(), dnsFlag()},
		Action: noArgs(p.health),
	}
}

func (p *program) health(c *urfave.Context) error {
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	return interruptible(false, func(ctx context.Context) error {
		if err := cl.Health(ctx); err != nil {
			return err
		}
		_, err := fmt.Fprintln(p.stdout, "ready")
		return err
	})
}
