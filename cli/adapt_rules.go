package cli

import (
	"net"
	"slices"
	"strconv"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/internal/adapt"
)

// ruleFlags are those of the ways in that make updates of messages: how, and
// the original's names for where to.
func ruleFlags() []urfave.Flag {
	return []urfave.Flag{
		text("tskey", "", "`KEY` of the messages with the time, in seconds since 1970"),
		list("filter", "", "`KEY:VALUE` that messages must have, others are passed over; may be repeated, then all must match"),
		text("projections", "", "`KEYS` of the messages to make the data of, with commas"),
		aliased(text("documentation", "", "`URL` of the documentation"), "d"),
		aliased(text("url", "", "`URL` of the broker's input, its main port + 1, instead of --broker; tcp://*:7955 is this machine"), "u"),
	}
}

// rulesOf reads them.
func rulesOf(c *urfave.Context) (adapt.Rules, error) {
	rules := adapt.Rules{TSKey: c.String("tskey")}
	for _, s := range c.StringSlice("filter") {
		f, err := adapt.ParseFilter(s)
		if err != nil {
			return rules, usagef("--filter: %v", err)
		}
		rules.Filters = append(rules.Filters, f)
	}
	if keys := c.String("projections"); keys != "" {
		rules.Projections = strings.Split(keys, ",")
		for i := range rules.Projections {
			rules.Projections[i] = strings.TrimSpace(rules.Projections[i])
		}
		if slices.Contains(rules.Projections, "") {
			return rules, usagef("--projections: %q has an empty key", keys)
		}
	}
	return rules, nil
}

// urlToBroker makes --broker of --url, which names the port after it. As with
// the original, --url counts more than --zone.
func urlToBroker(c *urfave.Context) error {
	input := c.String("url")
	if input == "" {
		return nil
	}
	if c.IsSet("broker") && onLine(c, "broker") {
		return usagef("--url %s and --broker %s are both given: one is enough; --broker takes the main port, --url that of the input",
			input, c.String("broker"))
	}
	host, port, err := parseEndpoint(input, 0)
	if err == nil && port <= client.InputOffset {
		err = usagef("%q: the main port, one below, would be %d", input, port-client.InputOffset)
	}
	if err != nil {
		return usagef("--url: %v", err)
	}
	broker := "tcp://" + net.JoinHostPort(host, strconv.Itoa(port-client.InputOffset))
	for flag, value := range map[string]string{"broker": broker, "zone": ""} {
		if err := c.Set(flag, value); err != nil {
			return err
		}
	}
	return nil
}
