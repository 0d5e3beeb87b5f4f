package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"tbhist/internal/zmtp"
)

// The service whose records name the brokers of a zone.
const (
	service  = "thingsbus"
	protocol = "tcp"
)

// RecordName gives the name of the SRV records of a zone.
func RecordName(zone string) string {
	return "_" + service + "._" + protocol + "." + strings.TrimSuffix(zone, ".")
}

// Record is one SRV record of a zone: a broker of it.
type Record struct {
	// Priority: brokers with a lower one are tried first.
	Priority uint16
	// Weight: among brokers of one priority, the chance to be tried first.
	Weight uint16
	Host   string // without a trailing dot
	Port   int    // the main port
}

// lookupWait is how long looking a zone up may take. A resolver asks again
// after 5 s, as is usual: one datagram lost is no failure.
const lookupWait = 8 * time.Second

// Records looks the zone up and gives its records in the order in which they
// are to be tried now: by priority, and at random by weight among equals
// (RFC 2782). There is one at least without an error, which is a
// *NoBrokerError or that of the context. Nil without a zone.
func (c *Client) Records(ctx context.Context) ([]Record, error) {
	if c.o.Zone == "" {
		return nil, nil
	}
	asking, cancel := context.WithTimeout(ctx, c.lookupWait)
	defer cancel()
	// The last dot: no search domain of this machine is tried.
	_, found, err := c.resolver().LookupSRV(asking, service, protocol, c.o.Zone+".")
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && len(found) == 0: // else some records are good
		return nil, c.noRecord(asking, err)
	}
	var all []Record
	for _, r := range found {
		if host := strings.TrimSuffix(r.Target, "."); host != "" {
			all = append(all, Record{Priority: r.Priority, Weight: r.Weight, Host: host, Port: int(r.Port)})
		}
	}
	if len(all) == 0 {
		return nil, c.noZone(errNotOffered, "zone "+c.o.Zone+" says that it has no broker: the target of its record "+RecordName(c.o.Zone)+` is "."`)
	}
	order(all, c.intn)
	return all, nil
}

// errNotOffered stands for the target "." (RFC 2782).
var errNotOffered = errors.New("the service is not available in this zone")

// maxEndpoints bounds how many brokers of a zone are tried for one connection:
// a zone may have thousands of records, and each that leads nowhere takes
// Options.DialTimeout.
const maxEndpoints = 32

// zoneEndpoints gives the brokers of the zone in the order to be tried, each
// once.
func (c *Client) zoneEndpoints(ctx context.Context) ([]endpoint, error) {
	records, err := c.Records(ctx)
	if err != nil {
		return nil, err
	}
	var all []endpoint
	for _, r := range records {
		e := endpoint{host: r.Host, port: r.Port}
		if len(all) < maxEndpoints && r.Port >= 1 && r.Port <= maxPort && !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		return nil, c.noZone(errNotOffered, fmt.Sprintf("the port %d that zone %s has for its broker is not in 1…%d", records[0].Port, c.o.Zone, maxPort))
	}
	return all, nil
}

// noRecord says why there are no records.
func (c *Client) noRecord(ctx context.Context, err error) error {
	zone, name := c.o.Zone, RecordName(c.o.Zone)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		why := "zone " + zone + " names no broker: it has no record " + name + " (SRV)"
		if c.noSuchZone(ctx) {
			why = "zone " + zone + " is not known, nor a record " + name + " (SRV): is the name right?"
		}
		return c.noZone(err, why)
	case errors.As(err, &dns) && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return c.noZone(err, "zone "+zone+" cannot be looked up: the name server does not answer")
	case errors.As(err, &dns): // its own text has the name of a server that may not be the one asked
		return c.noZone(err, "zone "+zone+" cannot be looked up: the name server does not tell ("+dns.Err+")")
	}
	return c.noZone(err, "zone "+zone+" cannot be looked up: "+err.Error())
}

// noSuchZone tells whether a zone is known not to be there, rather than to
// lack the record.
func (c *Client) noSuchZone(ctx context.Context) bool {
	r, ok := c.resolver().(interface {
		LookupNS(ctx context.Context, name string) ([]*net.NS, error)
	})
	if !ok {
		return false
	}
	_, err := r.LookupNS(ctx, c.o.Zone+".")
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

func (c *Client) noZone(err error, sentence string) error {
	return &NoBrokerError{Zone: c.o.Zone, Err: err, why: sentence, sentence: sentence}
}

// Ping makes a connection to the broker's live feed, the handshake included,
// and closes it: nil means that a broker answers, of tbhist or another. The
// error is a *NoBrokerError or that of the context.
func (c *Client) Ping(ctx context.Context) error {
	conn, err := c.connect(ctx, FeedOffset, zmtp.Sub)
	if err != nil {
		return err
	}
	conn.close()
	return nil
}

// parseZone checks a zone and takes the trailing dot off.
func parseZone(s string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("%q is not a zone: %s; taken is a domain such as example.org", s, why)
	}
	zone := strings.TrimSuffix(s, ".")
	switch {
	case strings.Contains(zone, "://"):
		return bad("it is a URL")
	case net.ParseIP(zone) != nil:
		return bad("it is an address")
	case len(RecordName(zone)) > 253:
		return bad("it is too long")
	}
	for part := range strings.SplitSeq(zone, ".") {
		if part == "" || len(part) > 63 {
			return bad("its parts have 1 to 63 characters")
		}
		for _, r := range part {
			switch {
			case r == ':':
				return bad("a zone has no port, its records have")
			case r >= 0x80:
				return bad("other letters than a to z are written as xn--…")
			case r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z'):
				return bad("its characters are letters, digits, - and _")
			}
		}
	}
	return zone, nil
}
