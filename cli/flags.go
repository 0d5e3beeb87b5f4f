package cli

import (
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/thing"
)

// envName gives the environment variable of a flag.
func envName(flag string) []string {
	return []string{"TBHIST_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

// text makes a flag with a value. All values are text to the flag package
// and are read by the command, so that what is wrong with one is said in the
// same way whether it came from a flag, the environment or a file.
func text(name, def, usage string) *urfave.StringFlag {
	f := &urfave.StringFlag{Name: name, Usage: usage, Value: def, DefaultText: def, EnvVars: envName(name)}
	return f
}

func toggle(name string, def bool, usage string) *urfave.BoolFlag {
	f := &urfave.BoolFlag{Name: name, Usage: usage, Value: def, EnvVars: envName(name)}
	if def {
		f.DefaultText = "true"
	} else {
		f.DefaultText = "false"
	}
	return f
}

// typed makes a flag that no variable sets, for what deletes or confirms: a
// word in a profile, or one that is meant for another command, must not.
func typed(name, usage string) *urfave.BoolFlag {
	f := toggle(name, false, usage)
	f.EnvVars = nil
	return f
}

func brokerFlag() urfave.Flag {
	return text("broker", client.DefaultBroker, "`URL` of the broker's main port")
}

func zoneFlag() urfave.Flag {
	return text("zone", "", "`ZONE` whose SRV records name the broker, instead of --broker: a domain such as example.org")
}

func dnsFlag() urfave.Flag {
	return text("dns", "", "`HOST:PORT` of the name server to look up --zone and hosts at (default: this machine's)")
}

func nsFlag() urfave.Flag {
	return text("ns", "", "`NAMESPACE` of a Thing; it and all below it (default: everything)")
}

// questionFlags ask history for updates.
func questionFlags() []urfave.Flag {
	return []urfave.Flag{
		nsFlag(),
		toggle("tree", true, "with all Things below --ns; --tree=false for the one Thing"),
		text("since", "", "first `TIME`"),
		text("until", "", "`TIME` to stop before"),
		text("by", "received", "which `TIME` counts: received or ts"),
		text("after", "", "only updates behind this `SEQ`"),
		text("last", "", "only the newest `COUNT` of each Thing"),
		text("limit", "", "only the first `COUNT` of the answer"),
	}
}

func utcFlag() urfave.Flag {
	return toggle("utc", false, "write times in UTC rather than local time")
}

func formatFlag() urfave.Flag {
	return text("format", "text", "`FORMAT` of the output: text, json or csv")
}

// dial gives a client of the broker that --broker or --zone names.
func (p *program) dial(c *urfave.Context) (*client.Client, error) {
	resolver, err := resolverOf(c)
	if err != nil {
		return nil, err
	}
	if err := checkToken(c.String("token")); err != nil {
		return nil, usagef("--token: %v", err)
	}
	o := client.Options{Resolver: resolver, Token: c.String("token"), Logger: slog.New(slog.DiscardHandler)}
	flag, err := brokerOrZone(c)
	if err != nil {
		return nil, err
	}
	if flag == "zone" {
		o.Zone = c.String(flag)
	} else {
		o.Broker = c.String(flag)
	}
	cl, err := client.New(o)
	if err != nil {
		return nil, usagef("--%s: %v", flag, err)
	}
	return cl, nil
}

// brokerOrZone tells which of the two flags counts. One on the command line
// counts more than the other in the environment.
func brokerOrZone(c *urfave.Context) (string, error) {
	zone, broker := c.String("zone") != "", c.IsSet("broker")
	if zone && broker {
		if zone, broker = onLine(c, "zone"), onLine(c, "broker"); zone == broker {
			return "", usagef("--zone %s and --broker %s are both given: a zone names its brokers itself; leave one out",
				c.String("zone"), c.String("broker"))
		}
	}
	if zone {
		return "zone", nil
	}
	return "broker", nil
}

// onLine tells whether a flag that was set has its value from the command
// line rather than from the environment.
func onLine(c *urfave.Context, flag string) bool {
	value, ok := os.LookupEnv(envName(flag)[0])
	return !ok || value != c.String(flag)
}

// resolverOf gives the resolver that --dns names, else the default.
func resolverOf(c *urfave.Context) (*net.Resolver, error) {
	server := c.String("dns")
	if server == "" {
		return net.DefaultResolver, nil
	}
	r, err := client.NewResolver(server)
	if err != nil {
		return nil, usagef("--dns: %v", err)
	}
	return r, nil
}

func nsOf(c *urfave.Context) (thing.Name, error) {
	name, err := parseNS(c.String("ns"))
	if err != nil {
		return "", usagef("--ns: %v", err)
	}
	return name, nil
}

// timeOf reads a time flag; ok is false where it was not given.
func (p *program) timeOf(c *urfave.Context, flag string) (t instant, ok bool, err error) {
	s := c.String(flag)
	if s == "" {
		return instant{}, false, nil
	}
	if t, err = parseTime(s, p.now()); err != nil {
		return instant{}, false, usagef("--%s: %v", flag, err)
	}
	return t, true, nil
}

// countOf reads a flag that counts from 1; 0 where it was not given.
func countOf(c *urfave.Context, flag string) (uint64, error) {
	s := c.String(flag)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, usagef("--%s: %q is not a number from 1", flag, s)
	}
	return n, nil
}
