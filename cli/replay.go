package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
)

func (p *program) replayCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "replay",
		Usage: "print what happened, from history",
		Description: `Prints the updates of a Thing and all below it, oldest first:

  tbhist replay --ns spacemon --since 1h
  tbhist replay --ns shop --since '2026-11-22 14:00' --until '2026-11-22 15:00'
  tbhist replay --last 1                      the newest of each Thing
  tbhist replay --since 14:00 --format csv > today.csv
  tbhist replay --ns shop --last 10 --follow  and then what comes, as it comes

Times may be 1h or 2d (ago), a date, '2026-11-22 14:00' or 14:00 (local), RFC
3339 or Unix seconds. What is printed, and what --since and --until speak of,
is when the broker received an update; --by ts makes it the source's own time.

What history no longer holds of the answer is counted on stderr; with
--strict the exit code then is 3.`,
		Flags: []urfave.Flag{
			nsFlag(),
			toggle("tree", true, "with all Things below --ns; --tree=false for the one Thing"),
			text("since", "", "first `TIME`"),
			text("until", "", "`TIME` to stop before"),
			text("by", "received", "which `TIME` counts: received or ts"),
			text("after", "", "only updates behind this `SEQ`"),
			text("last", "", "only the newest `COUNT` of each Thing"),
			text("limit", "", "only the first `COUNT` of the answer"),
			toggle("follow", false, "go on with what comes in, until interrupted"),
			toggle("strict", false, "exit with 3 if history no longer holds all of the answer"),
			formatFlag(),
			utcFlag(),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		},
		Action: noArgs(p.replay),
	}
}

func (p *program) replay(c *urfave.Context) error {
	cl, err := p.dial(c)
	if err != nil {
		return err
	}
	q, err := p.replayQuery(c)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	printer, err := newUpdatePrinter(out, c.String("format"), clock{c.Bool("utc")}, q.ByTS)
	if err != nil {
		return err
	}
	if c.Bool("follow") {
		return interruptible(true, func(ctx context.Context) error {
			return p.follow(ctx, cl, q, out, printer, c.Bool("strict"))
		})
	}
	return interruptible(false, func(ctx context.Context) error {
		answer := cl.Replay(ctx, q)
		var err error
		if lines, ok := printer.(linePrinter); ok {
			err = printAll(answer.Lines(), lines.printLine)
		} else {
			err = printAll(answer.Updates(), func(u client.Update) error { return printer.print(&u) })
		}
		if err != nil {
			_ = out.Flush() // what came before is good
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
		return reportEvicted(p.stderr, answer.Evicted, answer.EvictedExact, c.Bool("strict"))
	})
}

func printAll[T any](answer iter.Seq2[T, error], print func(T) error) error {
	for item, err := range answer {
		if err != nil {
			return err
		}
		if err := print(item); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) replayQuery(c *urfave.Context) (q client.Query, err error) {
	if q.Name, err = nsOf(c); err != nil {
		return q, err
	}
	q.Alone = !c.Bool("tree")
	switch by := c.String("by"); by {
	case "received", "":
	case "ts":
		q.ByTS = true
	default:
		return q, usagef("--by: %q is neither received nor ts", by)
	}
	for flag, bound := range map[string]*client.Bound{"since": &q.Since, "until": &q.Until} {
		t, ok, err := p.timeOf(c, flag)
		if err != nil {
			return q, err
		}
		if ok {
			*bound = t.bound()
		}
	}
	for flag, n := range map[string]*uint64{"after": &q.After, "last": &q.Last, "limit": &q.Limit} {
		if flag == "after" && c.String(flag) == "0" { // behind nothing: all
			continue
		}
		if *n, err = countOf(c, flag); err != nil {
			return q, err
		}
	}
	if c.Bool("follow") && (c.String("until") != "" || q.Limit != 0) {
		return q, usagef("--follow goes on for ever: it cannot go with --until or --limit")
	}
	return q, nil
}

func flushed(out *bufio.Writer, err error) error {
	if flushErr := out.Flush(); flushErr != nil {
		return flushErr
	}
	return err
}

// reportEvicted says how much of an answer history no longer holds; under
// strict that is an error.
func reportEvicted(stderr io.Writer, evicted uint64, exact, strict bool) error {
	if evicted == 0 {
		return nil
	}
	about := ""
	if !exact {
		about = "up to "
	}
	updates := "updates of the answer are"
	if evicted == 1 {
		updates = "update of the answer is"
	}
	say(stderr, "%s%s %s no longer in history", about, grouped(evicted), updates)
	if strict {
		return errIncomplete
	}
	return nil
}

// grouped writes a number with commas between thousands.
func grouped(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// age is what tables show as a Thing's age: how long ago, by this machine's
// clock, the broker received its newest update.
func age(now time.Time, received time.Time) string {
	return formatDuration(max(0, now.Sub(received)))
}
