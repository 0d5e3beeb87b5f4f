package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/internal/adapt"
	"tbhist/metrics"
)

func (p *program) adaptCommand() *urfave.Command {
	c := &urfave.Command{
		Name:  "adapt",
		Usage: "feed what other programs publish into a broker",
		Description: `Runs in the foreground until SIGINT or SIGTERM, one program for each way in:

  tbhist adapt zmq -s tcp://camera:7202 --ns spacemon --nskey camname
  tbhist adapt thingsbus -s tcp://old-broker:7954
  tbhist adapt mqtt -s tcp://mqtt-broker:1883 --topic 'zigbee2mqtt/#' --ns home

Each connects again by itself, to its sources and to the broker, and ends
because of nothing that a source sends: what cannot be taken is skipped and
counted. The counts are printed at the end and on SIGUSR1, and are metrics
under --metrics-listen.`,
		Subcommands: []*urfave.Command{
			p.adaptZMQCommand(),
			p.adaptThingsbusCommand(),
			p.adaptMQTTCommand(),
		},
		Action: func(*urfave.Context) error {
			return usagef("adapt needs to know what; tbhist adapt --help lists it")
		},
	}
	for _, sub := range c.Subcommands {
		sub.HideHelpCommand = true
		sub.OnUsageError = onUsageError
	}
	return c
}

// adaptFlags are those of every way in: where to, and how it is watched.
func adaptFlags() []urfave.Flag {
	return []urfave.Flag{
		brokerFlag(),
		aliased(zoneFlag(), "z"),
		dnsFlag(),
		text("queue", strconv.Itoa(defaultAdaptQueue), "how many updates may wait for the broker, a `COUNT`; beyond it, and beyond 64 MiB, the oldest are dropped and counted"),
		text("metrics-listen", "", "`HOST:PORT` on which to answer /metrics; no host is all addresses (default: none)"),
	}
}

// defaultAdaptQueue is a minute and a half of 1,000 updates a second.
const defaultAdaptQueue = 100_000

// aliased gives a flag of text a one-letter name beside its own.
func aliased(f urfave.Flag, letter string) urfave.Flag {
	if text, ok := f.(*urfave.StringFlag); ok {
		text.Aliases = []string{letter}
	}
	return f
}

// list makes a flag that may be repeated.
func list(name, letter, usage string) urfave.Flag {
	f := &urfave.StringSliceFlag{Name: name, Usage: usage, EnvVars: envName(name)}
	if letter != "" {
		f.Aliases = []string{letter}
	}
	return f
}

// sourcesOf reads --sources, which has several with commas, too.
func sourcesOf(c *urfave.Context, defaultPort int) ([]string, error) {
	var sources []string
	for _, value := range c.StringSlice("sources") {
		for s := range strings.SplitSeq(value, ",") {
			if s = strings.TrimSpace(s); s == "" {
				continue
			}
			host, port, err := parseEndpoint(s, defaultPort)
			if err != nil {
				return nil, usagef("--sources: %v", err)
			}
			sources = append(sources, "tcp://"+net.JoinHostPort(host, strconv.Itoa(port)))
		}
	}
	if len(sources) == 0 {
		return nil, usagef("adapt %s needs a source to read from: -s tcp://HOST:PORT", c.Command.Name)
	}
	return sources, nil
}

// parseEndpoint takes tcp://HOST:PORT, with or without tcp://; the host "*"
// is this machine. Without a default the port must be there.
func parseEndpoint(s string, defaultPort int) (host string, port int, err error) {
	bad := func(why string) (string, int, error) {
		return "", 0, fmt.Errorf("%q is not tcp://HOST:PORT: %s", s, why)
	}
	rest := s
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		if scheme != "tcp" {
			return bad("its scheme is " + scheme)
		}
		rest = after
	}
	host, digits, err := net.SplitHostPort(rest)
	if err != nil && defaultPort > 0 {
		host, digits, err = net.SplitHostPort(rest + ":" + strconv.Itoa(defaultPort))
	}
	if err != nil {
		return bad("it has no port")
	}
	port, err = strconv.Atoi(digits)
	switch {
	case err != nil || port < 1 || port > 65535:
		return bad("its port is not a number from 1 to 65535")
	case host == "" || strings.ContainsAny(host, "/@? "):
		return bad("it has no host")
	case host == "*":
		host = "127.0.0.1"
	}
	return host, port, nil
}

// adapting makes a way in, once the way into the broker is there.
type adapting func(b *adapt.Bridge, target *client.Client, log *slog.Logger) runner

// runner is a way in: it runs until ctx ends.
type runner interface {
	Run(ctx context.Context) error
}

// adapt runs a way in until it is interrupted: what was taken by then is
// sent, within drainTime.
func (p *program) adapt(c *urfave.Context, o client.AdaptorOptions, way adapting) error {
	if c.NArg() > 0 {
		return usagef("adapt %s takes no argument, but got %q; see tbhist adapt %[1]s --help", c.Command.Name, c.Args().First())
	}
	queue, err := countOf(c, "queue")
	if err != nil {
		return err
	}
	target, err := p.dial(c)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(p.stderr, nil))
	o.Queue, o.Full, o.Logger = int(min(queue, 1<<30)), client.DropOldest, log
	scraped, err := listenMetrics(c.String("metrics-listen"))
	if err != nil {
		return err
	}
	var left error
	err = interruptible(true, func(ctx context.Context) error {
		out, err := target.NewAdaptor(o)
		if err != nil {
			if scraped != nil {
				_ = scraped.Close()
			}
			return err
		}
		bridge := adapt.NewBridge(out, log)
		stop := p.watch(bridge, scraped, log)
		err = way(bridge, target, log).Run(ctx)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		left = out.Close(closing)
		stop()
		say(p.stderr, "%s", bridge.Summary())
		return err
	})
	return errors.Join(err, left)
}

func listenMetrics(addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen: %w", err)
	}
	return ln, nil
}

// watch answers scrapes and SIGUSR1 until it is stopped.
func (p *program) watch(b *adapt.Bridge, scraped net.Listener, log *slog.Logger) (stop func()) {
	asked, end, ended := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	notifySummary(asked)
	go func() {
		defer close(ended)
		for {
			select {
			case <-asked:
				say(p.stderr, "%s", b.Summary())
			case <-end:
				return
			}
		}
	}()
	stopScrapes := func() {}
	if scraped != nil {
		stopScrapes = serveMetrics(b, scraped, log)
	}
	return func() {
		signal.Stop(asked)
		close(end)
		<-ended
		stopScrapes()
	}
}

func serveMetrics(b *adapt.Bridge, ln net.Listener, log *slog.Logger) (stop func()) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.AdaptHandler(adapt.ReasonCodes(), b.Sample))
	server := newHTTPServer(mux, log)
	log.Info("listening", "endpoint", "metrics", "addr", ln.Addr().String())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are no longer served", "err", err)
		}
	}()
	return func() {
		_ = server.Close()
		<-ended
	}
}
