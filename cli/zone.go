package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
)

func (p *program) zoneCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "zone",
		Usage:     "show the brokers that a domain names, and whether they answer",
		ArgsUsage: "ZONE",
		Description: `A zone is a domain that names its brokers itself, in SRV records
_thingsbus._tcp.ZONE, so that adaptors and clients need no address and a
broker can move. Shows them in the order in which they are tried now:

  tbhist zone example.org
  tbhist zone example.org --dns 192.0.2.53    as that name server has it
  tbhist things --zone example.org            uses the first that answers

The lowest PRIORITY is tried first, and the next only when it does not
answer; brokers of one priority share the clients in proportion to WEIGHT. A
client looks the zone up anew whenever it connects.

ANSWER is "ready", or what is wrong; TIME is how long it took to connect to
the main port. Then comes the record that would name this host, for the zone
file. 7954 in it is the main port, unless serve --listen says otherwise.

The exit code is 0 if at least one broker answers.`,
		Flags: []urfave.Flag{
			text("format", formatText, "`FORMAT` of the output: text or json"),
			dnsFlag(),
		},
		Action: p.zone,
	}
}

// zoneReport is what is found out about a zone.
type zoneReport struct {
	Zone    string       `json:"zone"`
	Name    string       `json:"name"` // of the records
	Records []zoneBroker `json:"records"`
	Error   *string      `json:"error"`       // why there are no records
	Suggest string       `json:"zone_record"` // that would name this host

	unnamed     bool // the zone is known to name no broker
	noAddress   bool // of the suggested host
	suggestHost string
}

// zoneBroker is a record and what is found where it leads.
type zoneBroker struct {
	Priority  uint16   `json:"priority"`
	Weight    uint16   `json:"weight"`
	Host      string   `json:"host"`
	Port      int      `json:"port"`
	Addresses []string `json:"addresses"`
	Answers   bool     `json:"answers"` // at the main port
	Ready     bool     `json:"ready"`
	Seconds   *float64 `json:"seconds"` // to connect; nil if it does not answer
	Error     *string  `json:"error"`   // why it does not answer, or is not ready
}

func (p *program) zone(c *urfave.Context) error {
	zone := strings.TrimSuffix(c.Args().First(), ".")
	if c.NArg() != 1 || zone == "" {
		return usagef("zone takes one domain, as in: tbhist zone example.org")
	}
	write := writeZone
	switch format := c.String("format"); format {
	case formatText:
	case formatJSON:
		write = func(w io.Writer, z *zoneReport) error { return json.NewEncoder(w).Encode(z) }
	default:
		return usagef("--format: %q is neither text nor json", format)
	}
	resolver, err := resolverOf(c)
	if err != nil {
		return err
	}
	cl, err := client.New(client.Options{Zone: zone, Resolver: resolver})
	if err != nil {
		return usagef("%v", err)
	}
	return interruptible(false, func(ctx context.Context) error {
		z := &zoneReport{Zone: zone, Name: client.RecordName(zone)}
		records, err := cl.Records(ctx)
		if err != nil {
			why := err.Error()
			z.Error = &why
			var dns *net.DNSError
			z.unnamed = !errors.As(err, &dns) || dns.IsNotFound
		}
		z.ask(ctx, resolver, records)
		hostname, _ := os.Hostname() // without one, any will do as an example
		z.suggest(ctx, resolver, hostname)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := write(p.stdout, z); err != nil {
			return err
		}
		return z.failure()
	})
}

// ask finds out of all brokers at once whether they answer.
func (z *zoneReport) ask(ctx context.Context, resolver *net.Resolver, records []client.Record) {
	z.Records = make([]zoneBroker, len(records))
	var asking sync.WaitGroup
	for i, r := range records {
		b := &z.Records[i]
		*b = zoneBroker{Priority: r.Priority, Weight: r.Weight, Host: r.Host, Port: r.Port, Addresses: []string{}}
		asking.Go(func() {
			if err := b.ask(ctx, resolver); err != nil {
				why := err.Error()
				var none *client.NoBrokerError
				if errors.As(err, &none) {
					why = none.Reason()
				}
				b.Error = &why
			}
		})
	}
	asking.Wait()
}

func (b *zoneBroker) ask(ctx context.Context, resolver *net.Resolver) error {
	b.Addresses = append(b.Addresses, addresses(ctx, resolver, b.Host)...)
	cl, err := client.New(client.Options{Broker: net.JoinHostPort(b.Host, strconv.Itoa(b.Port)), Resolver: resolver})
	if err != nil {
		return err
	}
	began := time.Now()
	if err := cl.Ping(ctx); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	b.Answers, b.Seconds = true, &took
	err = cl.Health(ctx)
	var none *client.NoBrokerError
	if errors.As(err, &none) {
		return fmt.Errorf("its health is not known: port %d: %s", b.Port+client.HTTPOffset, none.Reason())
	}
	b.Ready = err == nil
	return err
}

// addressWait is how long looking up a host's addresses may take.
const addressWait = 5 * time.Second

// addresses gives a host's addresses, none if it is not known.
func addresses(ctx context.Context, resolver *net.Resolver, host string) []string {
	ctx, cancel := context.WithTimeout(ctx, addressWait)
	defer cancel()
	all, err := resolver.LookupHost(ctx, host)
	if err != nil {
		return nil
	}
	return all
}

// suggest makes the record that would name this host.
func (z *zoneReport) suggest(ctx context.Context, resolver *net.Resolver, hostname string) {
	z.suggestHost = hostIn(z.Zone, hostname)
	z.Suggest = fmt.Sprintf("%s. 3600 IN SRV 0 0 %d %s.", z.Name, client.DefaultPort, z.suggestHost)
	if z.Error == nil || z.unnamed { // else the name server would have to be waited for again
		z.noAddress = len(addresses(ctx, resolver, z.suggestHost)) == 0
	}
}

// hostIn gives the name that a host has, or may well get, in a zone.
func hostIn(zone, hostname string) string {
	name := strings.ToLower(strings.TrimSuffix(hostname, "."))
	first, domain, _ := strings.Cut(name, ".")
	switch {
	case first == "" || first == "localhost":
		return "myhost." + zone
	case domain == "" || domain == "local" || domain == "localdomain":
		// Names that only the host itself and its neighbours know.
		return first + "." + zone
	}
	return name
}

// failure is the error that the command ends with, unless a broker answers.
func (z *zoneReport) failure() error {
	if z.Error != nil {
		return errors.New(*z.Error)
	}
	for i := range z.Records {
		if z.Records[i].Answers {
			return nil
		}
	}
	return fmt.Errorf("no broker of zone %s answers", z.Zone)
}

// writeZone writes the report for people. What stands around the record are
// comments in a zone file.
func writeZone(w io.Writer, z *zoneReport) error {
	var out strings.Builder
	if z.Error == nil {
		t := &table{
			head:  []string{"PRIORITY", "WEIGHT", "HOST", "PORT", "ADDRESSES", "TIME", "ANSWER"},
			right: []bool{true, true, false, true, false, true},
		}
		for i := range z.Records {
			t.add(z.Records[i].row()...)
		}
		if err := t.write(&out); err != nil {
			return err
		}
		out.WriteByte('\n')
	}
	if z.Error == nil || z.unnamed {
		out.WriteString("; The zone file names a broker on this host by:\n" + z.Suggest + "\n")
		if z.noAddress {
			out.WriteString("; " + z.suggestHost + " has no address yet: it needs a record A or AAAA, too.\n")
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (b *zoneBroker) row() []string {
	took, answer, found := "-", "ready", "-"
	if b.Seconds != nil {
		took = strconv.FormatFloat(*b.Seconds*1000, 'f', 1, 64) + "ms"
	}
	switch {
	case !b.Answers:
		answer = "none: " + *b.Error
	case !b.Ready:
		answer = "yes, but " + *b.Error
	}
	if len(b.Addresses) > 0 {
		found = strings.Join(b.Addresses, ",")
	}
	return []string{
		strconv.Itoa(int(b.Priority)), strconv.Itoa(int(b.Weight)), b.Host, strconv.Itoa(b.Port), found, took, answer,
	}
}
