package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/ingest"
)

func (p *program) serveCommand() *urfave.Command {
	flags := serveFlags()
	return &urfave.Command{
		Name:  "serve",
		Usage: "run a broker",
		Description: `Runs a broker in the foreground until SIGINT or SIGTERM. It needs no flag:

  tbhist serve
  tbhist serve --listen 127.0.0.1:7954 --db /var/lib/tbhist/tbhist.db
  tbhist serve --ring 1000 --keep 'shop=100000,30d' --keep 'shop.camera=,,500MiB'
  tbhist serve --config /etc/tbhist.yaml

Ports, from the main port P of --listen: P live feed, P+1 input (ZeroMQ and
UDP), P+2 history, P+3 HTTP with /metrics, /healthz and /readyz.

Of each Thing the newest updates are kept, bounded by count, age and bytes:
--ring is the count for all, --keep sets limits for a namespace. Several
limits in TBHIST_KEEP are separated by spaces. "unlimited" as a part takes
away a bound. A Thing's newest update is always kept.

A flag counts more than the environment, that more than the --config file.`,
		Flags: append([]urfave.Flag{
			text("config", "", "YAML `FILE` with a line \"flag: value\" for each flag"),
		}, flags...),
		Before: applyConfig(flags),
		Action: noArgs(p.serve),
	}
}

func (p *program) serve(c *urfave.Context) error {
	s, err := readSettings(c)
	if err != nil {
		return err
	}
	log := p.logger(&s)
	ctx, stop := p.untilSignal(log)
	defer stop()
	b, err := openBroker(s, log)
	if err != nil {
		return err
	}
	b.advise()
	if err := b.watchOver(); err != nil {
		log.Warn("the watchdog of systemd is not fed", "err", err)
	}
	err = b.Run(ctx, func() {
		addrs := b.sockets.addrs()
		for _, endpoint := range endpoints {
			log.Info("listening", "endpoint", endpoint, "addr", addrs[endpoint].String())
		}
		log.Info("ready")
		tell(log, notifyReady)
	})
	if err == nil {
		log.Info("stopped")
	}
	return err
}

func (p *program) logger(s *settings) *slog.Logger {
	o := &slog.HandlerOptions{Level: s.logLevel}
	if s.logJSON {
		return slog.New(slog.NewJSONHandler(p.stderr, o))
	}
	return slog.New(slog.NewTextHandler(p.stderr, o))
}

// untilSignal gives a context that ends at the first SIGINT or SIGTERM; the
// second ends the process at once.
func (p *program) untilSignal(log *slog.Logger) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals, served, ended := make(chan os.Signal, 2), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer close(ended)
		for {
			select {
			case <-served:
				return
			case s := <-signals:
				if ctx.Err() != nil {
					os.Exit(exitFailed)
				}
				log.Info("stopping", "signal", s.String(), "within", drainTime.String())
				tell(log, notifyStopping)
				cancel()
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(served)
		<-ended
		cancel()
	}
}

func tell(log *slog.Logger, state string) {
	if err := notify(state); err != nil {
		log.Warn("systemd could not be told", "state", state, "err", err)
	}
}

// advise logs what the machine could do better.
func (b *broker) advise() {
	granted, err := ingest.SetReadBuffer(b.sockets.udp, ingest.DefaultUDPBuffer)
	switch {
	case err != nil:
		b.log.Warn("the receive buffer for UDP could not be set", "err", err)
	case granted < ingest.DefaultUDPBuffer:
		b.log.Warn("the system grants only a small receive buffer for UDP, so that bursts of datagrams may be dropped; as root: sysctl -w net.core.rmem_max=4194304",
			"granted", granted, "wanted", ingest.DefaultUDPBuffer)
	}
	device := flashOf("/sys", b.s.db)
	switch {
	case device == "":
	case b.s.gather >= time.Second:
		b.log.Info("the history is on flash memory that wears out: at 10 updates/s, about 2 GB a day are written to it", "device", device)
	default:
		b.log.Warn("the history is on flash memory that wears out: each commit writes about 22 KB to it, 10 updates/s about 20 GB a day; --gather 1s makes that about 2 GB", "device", device)
	}
}
