package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
)

func (p *program) sendCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "send",
		Usage:     "send one update and wait until it is kept",
		ArgsUsage: "NAMESPACE JSON",
		Description: `Sends data of a Thing, waits until it is back on the live feed, and prints its
number in history:

  tbhist send spacemon.electronics '{"luminance": 106.09}'
  tbhist send shop.temperature -5
  tbhist send shop.door '"open"' --doc https://wiki.example/door --ts 14:00

The data is any JSON value: a text needs its quotes. The root Thing is ''.`,
		Flags: []urfave.Flag{
			text("ts", "", "`TIME` when it was so (default: now, by the broker's clock)"),
			text("doc", "", "`URL` of the Thing's documentation"),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		},
		Action: p.send,
	}
}

func (p *program) send(c *urfave.Context) error {
	if c.NArg() != 2 {
		return usagef(`send takes a namespace and JSON, as in: tbhist send shop.temperature '{"celsius": 21.5}'`)
	}
	name, err := parseNS(c.Args().Get(0))
	if err != nil {
		return usagef("%v", err)
	}
	m := client.Message{Name: name, Data: []byte(c.Args().Get(1))}
	t, ok, err := p.timeOf(c, "ts")
	if err != nil {
		return err
	}
	if ok {
		ts := t.resolve(p.now()).Seconds()
		m.TS = &ts
	}
	if doc := c.String("doc"); doc != "" {
		if m.Doc, err = json.Marshal(doc); err != nil {
			return usagef("--doc: %v", err)
		}
	}
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	return interruptible(false, func(ctx context.Context) error {
		u, err := cl.Send(ctx, m)
		var invalid *client.InvalidError
		switch {
		case errors.As(err, &invalid):
			return usagef("%v", sendHint(c.Args().Get(1), invalid))
		case errors.Is(err, client.ErrNotSeen):
			return fmt.Errorf("%w within %s: the broker may be busy, or its --allow-input may not let this host in; see tbhist refused and the broker's log", err, client.SendWait)
		case err != nil:
			return err
		case !u.Kept():
			return errors.New("the broker published it but did not keep it: its disk refuses; see tbhist health")
		}
		_, err = fmt.Fprintln(p.stdout, strconv.FormatUint(u.Seq, 10))
		return err
	})
}

// sendHint adds what is meant most often by data that is not JSON: a text
// without its quotes.
func sendHint(data string, err error) error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) || data == "" {
		return err
	}
	if c := data[0]; c == '{' || c == '[' || c == '"' {
		return err
	}
	quoted, marshalErr := json.Marshal(data)
	if marshalErr != nil {
		return err
	}
	return fmt.Errorf("%w; is it a text? Then it is '%s'", err, quoted)
}
