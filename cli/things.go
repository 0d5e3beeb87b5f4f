package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/thing"
)

func (p *program) thingsCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "things",
		Usage: "list Things with the latest of each",
		Description: `Lists the directory, or the part of it at and below a Thing:

  tbhist things
  tbhist things --ns shop --wide
  tbhist things --at '2026-11-22 14:00'   as it was then
  tbhist things --watch                   as it changes, until interrupted
  tbhist things --format json | jq .ns    a line of JSON for each

AGE is how long ago the broker received the update. --wide adds who sent it,
from how many sources updates came in the last hour, how far the source's
clock is from the broker's (SKEW, received - ts), how many updates history
holds and the documentation URL. Several sources, and more than 5 minutes of
skew, are marked with "!".

--watch needs a terminal. RATE counts the updates of the last minute, or since
it was started. A connection that is lost is made again.`,
		Flags: []urfave.Flag{
			nsFlag(),
			text("at", "", "`TIME` in the past: 1h (ago), 14:00, '2026-11-22 14:00', …"),
			toggle("wide", false, "show sources, skew, updates kept and documentation URL too"),
			text("format", formatTable, "`FORMAT` of the output: table or json"),
			toggle("watch", false, "show a live table, with the rate of updates, until interrupted"),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		},
		Action: noArgs(p.things),
	}
}

// What a table shows of data at most, and the skew from which on it is
// marked.
const (
	dataColumns = 80
	skewLimit   = 5 * time.Minute
)

func (p *program) things(c *urfave.Context) error {
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	q := client.ThingsQuery{Wide: c.Bool("wide")}
	if q.Name, err = nsOf(c); err != nil {
		return err
	}
	asJSON, err := textOrJSON(c, formatTable)
	if err != nil {
		return err
	}
	if c.Bool("watch") {
		if asJSON {
			return usagef("--watch draws a table: tail --format json --snapshots prints what comes")
		}
		return p.watchThings(c, cl, q.Name)
	}
	if q.At, err = p.at(c); err != nil {
		return err
	}
	now := p.now()
	if q.At != nil {
		now = q.At.Time()
	}
	t := &table{head: []string{"THING", "AGE", "DATA"}, right: []bool{false, true}}
	if q.Wide {
		t = &table{
			head:  []string{"THING", "AGE", "SKEW", "SOURCE", "SOURCES", "KEPT", "DOCUMENTATION", "DATA"},
			right: []bool{false, true, true, false, true, true},
		}
	}
	return interruptible(false, func(ctx context.Context) error {
		for entry, err := range cl.Things(ctx, q) {
			if err != nil {
				return err
			}
			if asJSON {
				if err := p.printEntry(&entry); err != nil {
					return err
				}
				continue
			}
			if q.Wide {
				t.add(wideRow(now, &entry)...)
			} else {
				t.add(nameText(entry.Update.Name), entryAge(now, &entry), entryData(&entry))
			}
		}
		if asJSON {
			return nil
		}
		return t.write(p.stdout)
	})
}

// printEntry prints an entry as the line of the wire.
func (p *program) printEntry(e *client.Entry) error {
	w := &wire.Entry{Update: e.Update, Doc: e.Doc, Unknown: e.Unknown}
	if e.Wide != nil {
		wide := wire.Wide(*e.Wide)
		w.Wide = &wide
	}
	_, err := p.stdout.Write(append(wire.AppendEntry(nil, w), '\n'))
	return err
}

// notKnown stands for what history no longer tells.
const notKnown = "?"

func entryAge(now time.Time, e *client.Entry) string {
	if e.Unknown {
		return notKnown
	}
	return age(now, e.Update.Received.Time())
}

func entryData(e *client.Entry) string {
	if e.Unknown {
		return "no longer in history"
	}
	return clip(string(appendVisible(nil, e.Update.Data)), dataColumns)
}

func wideRow(now time.Time, e *client.Entry) []string {
	name, source, sources, kept := nameText(e.Update.Name), "-", "-", "-"
	if e.Unknown {
		return []string{name, notKnown, notKnown, source, sources, kept, "-", entryData(e)}
	}
	if w := e.Wide; w != nil {
		if w.Source != "" {
			source = w.Source + " " + w.Transport
		}
		sources, kept = marked(strconv.Itoa(w.Sources), w.Sources > 1), grouped(w.Kept)
	}
	doc := "-"
	if len(e.Doc) > 0 {
		doc = clip(string(appendVisible(nil, []byte(docText(e.Doc)))), dataColumns)
	}
	skew := skewOf(&e.Update)
	return []string{
		name, entryAge(now, e), marked(formatDuration(skew), skew.Abs() > skewLimit),
		source, sources, kept, doc, entryData(e),
	}
}

// skewOf is how far the broker's clock was ahead of the source's. A source
// may say any time; durations end at 292 years.
func skewOf(u *thing.Update) time.Duration {
	const most = float64(1<<63-1) / float64(time.Second) / 2
	seconds := u.Received.Seconds() - u.TS
	return time.Duration(min(max(seconds, -most), most) * float64(time.Second))
}

func marked(s string, mark bool) string {
	if mark {
		return fmt.Sprintf("! %s", s)
	}
	return s
}
