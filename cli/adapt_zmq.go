package cli

import (
	"log/slog"
	"slices"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/internal/adapt"
)

func (p *program) adaptZMQCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "zmq",
		Usage: "take JSON that programs publish over ZeroMQ",
		Description: `Subscribes to everything that sources publish, makes an update of each JSON
message, and sends it to the broker. It takes the flags of thingsbus 0.2.1's
generic_zmq_adaptor:

  tbhist adapt zmq --ns spacemon --nskey camname --tskey frame_time \
    --filter mtype:percept_update --projections luminance,ratio_busy \
    --url 'tcp://*:7955' -s tcp://camera1:7202,tcp://camera2:7202 \
    --documentation https://wiki.example/spacemon

makes of {"mtype": "percept_update", "camname": "hall", "frame_time": 1423351104.5,
"luminance": 106.1, "ratio_busy": 0.03, "fps": 12} an update of spacemon.hall:
{"luminance": 106.1, "ratio_busy": 0.03}, as of 1423351104.5.

Without --nskey all is of the Thing --ns, without --tskey it is of now, without
--projections the whole message is the data. A message that lacks a key, or is
not JSON, is skipped and counted. Each frame of a multipart message is a message
of its own: a topic before JSON is skipped as not_json.`,
		Flags: append([]urfave.Flag{
			list("sources", "s", "`URL` of a PUB socket to read from, tcp://HOST:PORT; several with commas, or the flag several times"),
			text("ns", "", "`NAMESPACE` of the Thing to put data into; '' is the root"),
			text("nskey", "", "`KEY` of the messages with the last part of the namespace"),
		}, slices.Concat(ruleFlags(), adaptFlags())...),
		Action: p.adaptZMQ,
	}
}

func (p *program) adaptZMQ(c *urfave.Context) error {
	rules, err := rulesOf(c)
	if err != nil {
		return err
	}
	rules.NSKey = c.String("nskey")
	if !c.IsSet("ns") {
		return usagef("adapt zmq needs a Thing to put data into: --ns NAMESPACE, --ns '' for the root")
	}
	name, err := nsOf(c)
	if err != nil {
		return err
	}
	sources, err := sourcesOf(c, 0)
	if err != nil {
		return err
	}
	if err := urlToBroker(c); err != nil {
		return err
	}
	return p.adapt(c, client.AdaptorOptions{Namespace: name, DocumentationURL: c.String("documentation")},
		func(b *adapt.Bridge, _ *client.Client, log *slog.Logger) runner {
			return &adapt.ZMQ{Sources: sources, Rules: rules, Bridge: b, Logger: log}
		})
}
