package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/thing"
)

// replayed is what is put before the names of what is replayed to a broker.
const replayed thing.Name = "replay"

// replayFeed says where to and how --to sends.
type replayFeed struct {
	target *client.Client
	asIs   bool
}

// feederOf reads --to and what goes with it; nil without it.
func (p *program) feederOf(c *urfave.Context, q *question) (*feeder, error) {
	to := c.String("to")
	if to == "" {
		for _, flag := range []string{"as-is", "yes"} {
			if given(c, flag) {
				return nil, usagef("--%s says how to send to another broker, which --to names: add it", flag)
			}
		}
		return nil, nil
	}
	for _, flag := range []string{"format", "fields", "utc"} {
		if given(c, flag) {
			return nil, usagef("--to sends the updates and prints none: leave --%s out", flag)
		}
	}
	resolver, err := resolverOf(c)
	if err != nil {
		return nil, err
	}
	target, err := client.New(client.Options{Broker: to, Resolver: resolver, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, usagef("--to: %v", err)
	}
	f := &feeder{
		p: p, to: replayFeed{target: target, asIs: c.Bool("as-is")},
		question: q, began: p.now(), confirmed: position{after: q.After},
	}
	f.at = f.confirmed
	if f.to.asIs && !c.Bool("yes") && !isLoopback(target.URL()) {
		return nil, usagef("--as-is mixes old data into what %s receives, where nobody can tell it from new: "+
			"add --yes if that is meant, or leave --as-is out and all names begin with %q", target.URL(), replayed+".")
	}
	return f, nil
}

// given tells whether a flag is on the command line.
func given(c *urfave.Context, flag string) bool { return c.IsSet(flag) && onLine(c, flag) }

// isLoopback tells whether a broker is on this machine for certain.
func isLoopback(broker string) bool {
	u, err := url.Parse(broker)
	if err != nil {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// feed replays to a broker. from is the client of the source, nil for a file.
func (r *replaying) feed(ctx context.Context, from *client.Client, follow bool) error {
	f := r.feeder
	if err := f.begin(ctx, from); err != nil {
		return err
	}
	var err error
	var rest known
	if follow {
		err = r.p.follow(ctx, from, r.question.Query, r.out, f, r.strict)
	} else {
		answer := r.source.replay(ctx, r.question)
		err = r.each(ctx, answer)
		rest = answer.knows()
	}
	err = f.finish(ctx, err)
	if err == nil {
		err = reportLacking(r.p.stderr, rest, r.strict)
	}
	return err
}

// begin finds both brokers, and refuses what would go round for ever.
func (f *feeder) begin(ctx context.Context, from *client.Client) error {
	f.ctx = ctx
	source := ""
	if from != nil {
		var err error
		if source, err = epochOf(ctx, from); err != nil {
			return err
		}
	}
	err := f.to.target.Ping(ctx)
	var none *client.NoBrokerError
	if errors.As(err, &none) && !notLetIn(err) {
		return fmt.Errorf("--to: %v", err) //nolint:errorlint // what helps with --broker does not help here
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// A broker without a history service, or one that does not let this host
	// ask, is not the one that answered.
	if epoch, err := epochOf(ctx, f.to.target); err == nil && epoch == source {
		if err := f.ownBroker(); err != nil {
			return err
		}
	}
	f.refusals = newRefusals(ctx, f.to.target)
	return f.connect()
}

// notLetIn tells whether a broker answers and closes the connection: it may
// let in who sends all the same.
func notLetIn(err error) bool {
	var none *client.NoBrokerError
	return errors.As(err, &none) && strings.HasPrefix(none.Reason(), "it closes the connection")
}

// epochOf asks a broker for the name of its history.
func epochOf(ctx context.Context, cl *client.Client) (string, error) {
	answer := cl.Replay(ctx, client.Query{Limit: 1})
	for _, err := range answer.Updates() {
		if err != nil {
			return "", err
		}
	}
	return answer.Epoch, nil
}

// ownBroker refuses to send to the broker that is read from what would come
// back from it.
func (f *feeder) ownBroker() error {
	q := f.question
	switch onlyReplayed := strings.Trim(strings.ReplaceAll("."+string(q.Name), "."+string(replayed), ""), ".") == ""; {
	case f.to.asIs:
		return usagef("--to %s is the broker that is read from: with --as-is all would come back and be sent again, for ever; leave --as-is out", f.to.target.URL())
	case q.Alone || !onlyReplayed:
	case q.Name == "":
		f.notAgain = true
	default:
		return usagef("--to %s is the broker that is read from: what is sent there is below --ns %s, would come back and be sent again; name a Thing below it", f.to.target.URL(), q.Name)
	}
	return nil
}

// message makes what is sent of an update; ok is false if it cannot be, which
// is counted.
func (f *feeder) message(u *client.Update) (m client.Message, ok bool) {
	m = client.Message{Name: u.Name, Data: bytes.Clone(u.Data), Doc: bytes.Clone(u.Doc)}
	ts := u.TS
	m.TS = &ts
	if f.to.asIs {
		return m, true
	}
	if f.notAgain && u.Name.Under(replayed) {
		f.skipped.again++
		return m, false
	}
	m.Name = replayed
	if u.Name != "" {
		m.Name += "." + u.Name
	}
	if len(m.Name) > thing.MaxNameBytes {
		f.skipped.long++
		return m, false
	}
	return m, true
}

// goOn says how to go on behind what has arrived, in words of the command
// line.
func (f *feeder) goOn() string {
	q := f.question
	flags := fmt.Sprintf("--after %d", f.confirmed.after)
	if q.Limit > 0 {
		flags += fmt.Sprintf(" --limit %d", q.Limit-min(q.Limit, f.confirmed.taken))
	}
	for _, t := range []struct {
		flag string
		at   *instant
	}{{"--since", q.since}, {"--until", q.until}} {
		if t.at != nil && t.at.relative { // by then it would be another
			flags += fmt.Sprintf(" %s %.6f", t.flag, t.at.resolve(f.began).Seconds())
		}
	}
	return flags
}
