package adapt

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"tbhist/internal/zmtp"
)

// ZMQ is the generic adaptor for ZeroMQ: it subscribes to everything that
// its sources publish. Each frame of a message is a JSON document of its own,
// so that one with a topic before it comes in as well; the topic is skipped
// as not_json.
type ZMQ struct {
	// Sources are the addresses of bound PUB sockets, as tcp://HOST:PORT.
	Sources []string
	Rules   Rules
	Bridge  *Bridge
	Logger  *slog.Logger
}

// heartbeat is how often a silent source is asked whether it is there.
const heartbeat = 10 * time.Second

// maxOversize is the size up to which messages that are too large are read
// past, so that the connection goes on.
const maxOversize = 1 << 30

// Run takes messages from all sources, each connected again whenever it is
// lost, until ctx ends. The error then is that of ctx.
func (z *ZMQ) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for _, source := range z.Sources {
		d := zmtp.Dialer{DialOptions: zmtp.DialOptions{
			Role: zmtp.Sub, Limits: zmtp.Limits{MaxFrame: maxMessage, MaxOversize: maxOversize},
			Heartbeat: heartbeat, Logger: z.Logger.With("source", source),
		}}
		running.Go(func() {
			// It ends with ctx only.
			_ = d.Run(ctx, func(int) (string, error) { return source, nil }, func(ctx context.Context, c *zmtp.Conn) error {
				return z.receive(ctx, c, source)
			})
		})
	}
	<-ctx.Done()
	return ctx.Err()
}

// receive takes messages from one connection until it ends.
func (z *ZMQ) receive(ctx context.Context, c *zmtp.Conn, source string) error {
	if err := c.Subscribe(nil); err != nil {
		return err
	}
	z.Bridge.SourceUp()
	defer z.Bridge.SourceDown()
	z.Logger.Info("connected to the source", "source", source)
	for {
		f, err := c.Read()
		if err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		z.Bridge.Received()
		if err := z.take(ctx, f, source); err != nil {
			return err
		}
	}
}

func (z *ZMQ) take(ctx context.Context, f zmtp.Frame, source string) error {
	if f.Kind == zmtp.Oversize {
		z.Bridge.Skip(skip(ReasonTooLarge, "a message of %d bytes; %d are taken", f.Size, maxMessage), source, f.Body)
		return nil
	}
	compact, skipped := Compact(f.Body)
	if skipped != nil {
		z.Bridge.Skip(skipped, source, f.Body)
		return nil
	}
	m, skipped := z.Rules.Take(compact)
	if skipped != nil {
		z.Bridge.Skip(skipped, source, f.Body)
		return nil
	}
	return z.Bridge.Send(ctx, m, source, f.Body)
}
