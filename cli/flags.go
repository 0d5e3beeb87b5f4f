package cli

import (
	"log/slog"
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

func brokerFlag() urfave.Flag {
	return text("broker", client.DefaultBroker, "`URL` of the broker's main port")
}

func nsFlag() urfave.Flag {
	return text("ns", "", "`NAMESPACE` of a Thing; it and all below it (default: everything)")
}

func utcFlag() urfave.Flag {
	return toggle("utc", false, "write times in UTC rather than local time")
}

func formatFlag() urfave.Flag {
	return text("format", "text", "`FORMAT` of the output: text, json or csv")
}

// dial gives a client of the broker that --broker names.
func (p *program) dial(c *urfave.Context) (*client.Client, error) {
	cl, err := client.New(client.Options{Broker: c.String("broker"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, usagef("--broker: %v", err)
	}
	return cl, nil
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
