package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/publish"
	"tbhist/store"
	"tbhist/thing"
)

func (p *program) dbStatsCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "stats",
		Usage: "show what history holds, summed by prefix",
		Description: `Shows how many Things and updates a history holds, by the first part of their
names, or deeper:

  tbhist db stats
  tbhist db stats --ns shop --depth 2
  tbhist db stats --from-db /backup/tbhist-2026-11-01.db

BYTES is data and documentation URLs before compression, as serve --keep counts
them; in the file they take less. OLDEST is how long ago the oldest update was
received. REACH is how far back the rings go once they are full, if updates go
on coming as they did: that of the Thing that reaches least. It is "-" where
only the size of the file is a limit, or too little came to tell.

It is answered to programs on the broker's own machine, and to others with the
token of serve --http-token. A file that a broker has open is not read: ask the
broker.`,
		Flags: []urfave.Flag{
			nsFlag(),
			text("depth", "1", "how many parts of the names to tell apart below --ns, a `COUNT`; 0 for the sum alone"),
			text("from-db", "", "`FILE` with a history to read, instead of asking a broker: a backup, or that of a broker that is stopped"),
			text("format", formatTable, "`FORMAT` of the output: table or json"),
			tokenFlag(),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		},
		Action: noArgs(p.dbStats),
	}
}

const formatTable = "table"

func (p *program) dbStats(c *urfave.Context) error {
	asJSON, err := textOrJSON(c, formatTable)
	if err != nil {
		return err
	}
	q := client.StatsQuery{}
	if q.Name, err = nsOf(c); err != nil {
		return err
	}
	if q.Depth, err = strconv.Atoi(c.String("depth")); err != nil || q.Depth < 0 || q.Depth > thing.MaxNameBytes {
		return usagef("--depth: %q is not a number from 0", c.String("depth"))
	}
	file, err := fromDB(c)
	if err != nil {
		return err
	}
	var cl *client.Client
	if file == "" {
		if cl, err = p.dial(c); err != nil {
			return err
		}
	}
	return interruptible(false, func(ctx context.Context) error {
		s, err := p.statsOf(ctx, cl, file, q)
		if err != nil {
			return err
		}
		if s.Total.Things == 0 && q.Name != "" {
			if cl != nil {
				return noSuchThing(ctx, cl, q.Name)
			}
			return errors.New("there is no Thing " + nameText(q.Name) + " in " + file)
		}
		if asJSON {
			return json.NewEncoder(p.stdout).Encode(s)
		}
		return p.printStats(s)
	})
}

// statsOf asks the broker, or reads the file.
func (p *program) statsOf(ctx context.Context, cl *client.Client, file string, q client.StatsQuery) (*wire.Stats, error) {
	if cl != nil {
		s, err := cl.Stats(ctx, q)
		if err != nil {
			return nil, err
		}
		return wireStats(s), nil
	}
	src, err := p.openDB(file)
	if err != nil {
		return nil, err
	}
	s, err := fileStats(ctx, src, file, q)
	return s, errors.Join(err, src.close())
}

func fileStats(ctx context.Context, src *dbSource, file string, q client.StatsQuery) (*wire.Stats, error) {
	// To a file that nothing comes to, now is when something came last.
	var last thing.Micros
	if err := src.db.Latest(func(u *thing.Update, _ []byte) bool {
		last = max(last, u.Received)
		return true
	}); err != nil {
		return nil, err
	}
	tally := publish.NewTally(q.Name, q.Depth, last)
	if err := src.db.Usage(ctx, func(u store.ThingUsage) bool {
		tally.Add(u)
		return true
	}); err != nil {
		return nil, err
	}
	s := tally.Stats()
	state := src.db.State()
	s.Epoch, s.Head = state.Epoch, state.Head
	if info, err := os.Stat(file); err == nil {
		s.FileBytes = info.Size()
	}
	return s, nil
}

// wireStats gives the form in which JSON is printed.
func wireStats(s *client.Stats) *wire.Stats {
	prefix := func(s *client.PrefixStats) wire.PrefixStats {
		return wire.PrefixStats{
			NS: s.Name, Things: s.Things, Updates: s.Updates, Bytes: s.Bytes,
			Oldest: wire.Instant(s.Oldest), Newest: wire.Instant(s.Newest), Reach: wire.Span(s.Reach), ReachOf: s.ReachOf,
		}
	}
	w := &wire.Stats{
		Epoch: s.Epoch, Head: s.Head, At: wire.Instant(s.At), NS: s.Name, Depth: s.Depth,
		FileBytes: s.FileBytes, MaxBytes: s.MaxBytes, Total: prefix(&s.Total), Prefixes: []wire.PrefixStats{},
	}
	for i := range s.Prefixes {
		w.Prefixes = append(w.Prefixes, prefix(&s.Prefixes[i]))
	}
	return w
}

func (p *program) printStats(s *wire.Stats) error {
	t := &table{
		head:  []string{"PREFIX", "THINGS", "UPDATES", "BYTES", "OLDEST", "REACH"},
		right: []bool{false, true, true, true, true, true},
	}
	add := func(name string, row *wire.PrefixStats) {
		oldest, reach := "-", "-"
		if row.Oldest != 0 {
			oldest = age(thing.Micros(s.At).Time(), thing.Micros(row.Oldest).Time())
		}
		if row.Reach != 0 {
			reach = formatDuration(time.Duration(row.Reach))
		}
		t.add(name, grouped(uint64(row.Things)), grouped(row.Updates), formatSize(row.Bytes), oldest, reach)
	}
	const all = "(all)"
	for i := range s.Prefixes {
		name := nameText(s.Prefixes[i].NS)
		if s.NS == "" && s.Depth == 0 { // not the root Thing alone
			name = all
		}
		add(name, &s.Prefixes[i])
	}
	if len(s.Prefixes) > 1 {
		add(all, &s.Total)
	}
	if err := t.write(p.stdout); err != nil {
		return err
	}
	switch {
	case s.MaxBytes > 0 && s.FileBytes > s.MaxBytes:
		say(p.stderr, "the file has %s, more than --max-db (%s): space in it is used again; tbhist db compact, while the broker is stopped, makes it smaller",
			formatSize(s.FileBytes), formatSize(s.MaxBytes))
	case s.MaxBytes > 0:
		say(p.stderr, "the file has %s of %s at most", formatSize(s.FileBytes), formatSize(s.MaxBytes))
	case s.FileBytes > 0:
		say(p.stderr, "the file has %s", formatSize(s.FileBytes))
	}
	return nil
}
