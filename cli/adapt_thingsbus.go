package cli

import (
	"log/slog"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/internal/adapt"
)

func (p *program) adaptThingsbusCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "thingsbus",
		Usage: "take the updates of another broker, thingsbus or tbhist",
		Description: `Listens to another broker's live feed and sends each update on to this one:
namespace, time and documentation URL stay as they are.

  tbhist adapt thingsbus -s tcp://old-broker:7954
  tbhist adapt thingsbus -s tcp://shop-pi,tcp://hall-pi --ns spacemon

For running a new broker beside an old one, for moving over, and for bringing
several brokers together. Things that are silent come with the source's first
snapshot (at once from tbhist, within 15 s from thingsbus), as do the latest of
those whose updates were missed while there was no connection; what the broker
has already is not sent again.

Do not let two brokers feed each other, directly or in a circle: updates would
go round for ever.`,
		Flags: append([]urfave.Flag{
			list("sources", "s", "`URL` of the live feed (the main port) of a broker to read from, tcp://HOST[:7954]; several with commas, or the flag several times"),
			nsFlag(),
		}, adaptFlags()...),
		Action: p.adaptThingsbus,
	}
}

func (p *program) adaptThingsbus(c *urfave.Context) error {
	name, err := nsOf(c)
	if err != nil {
		return err
	}
	sources, err := sourcesOf(c, client.DefaultPort)
	if err != nil {
		return err
	}
	return p.adapt(c, client.AdaptorOptions{}, func(b *adapt.Bridge, target *client.Client, log *slog.Logger) runner {
		return &adapt.Thingsbus{Sources: sources, Name: name, Bridge: b, Target: target, Logger: log}
	})
}
