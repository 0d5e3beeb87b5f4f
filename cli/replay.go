package cli

import (
	"bufio"
	"fmt"
	"io"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
)

func (p *program) replayCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "replay",
		Usage: "print what happened, from history, or feed it into a broker",
		Description: `Prints the updates of a Thing and all below it, oldest first:

  tbhist replay --ns spacemon --since 1h
  tbhist replay --ns shop --since '2026-11-22 14:00' --until '2026-11-22 15:00'
  tbhist replay --last 1                      the newest of each Thing
  tbhist replay --ns shop --last 10 --follow  and then what comes, as it comes
  tbhist replay --since 14:00 --format csv > today.csv
  tbhist replay --ns shop --fields celsius,door.open --format csv > shop.csv

Times may be 1h or 2d (ago), a date, '2026-11-22 14:00' or 14:00 (local), RFC
3339 or Unix seconds. What is printed, and what --since and --until speak of,
is when the broker received an update; --by ts makes it the source's own time.

--fields takes members out of the data: names joined by ".", a number for a
place in an array. An update that lacks one has an empty cell (csv), null
(json) or "-" (text). In csv and json, times are Unix seconds.

What history no longer holds of the answer is counted on stderr; with
--strict the exit code then is 3.

Without a broker, from a backup or a stopped broker's file, which is only read:

  tbhist replay --from-db /backup/tbhist-2026-11-01.db --ns shop

Again as it was, to try a program or a display with real data:

  tbhist replay --ns shop --since 1h --speed 10 --to tcp://127.0.0.1:7954

--speed makes the pauses that there were, divided by it; a clock that was set
back makes none. --to sends to a broker, with the times and documentation URLs
as they were. Names get "replay." before them, so that nobody takes old data
for new; --as-is leaves them, and needs --yes unless the broker is on this
machine. A connection that is lost, to either broker, is made again, and the
replay goes on. When it is interrupted it says with which --after to go on.`,
		Flags: append(questionFlags(),
			toggle("follow", false, "go on with what comes in, until interrupted"),
			toggle("strict", false, "exit with 3 if history no longer holds all of the answer"),
			text("speed", "max", "`SPEED` of the replay: 1 is as it was, 10 ten times as fast, 0.5 half; max makes no pauses"),
			text("to", "", "`URL` of the main port of a broker to send the updates to, tcp://HOST[:7954], instead of printing them"),
			toggle("as-is", false, "with --to: leave the names as they are, without \"replay.\" before them"),
			toggle("yes", false, "with --as-is: to a broker on another machine, too"),
			text("from-db", "", "`FILE` with a history to read, instead of asking a broker: a backup, or that of a broker that is stopped"),
			text("fields", "", "only these members of the data, `PATHS` with commas: luminance,position.x,axes.0"),
			formatFlag(),
			utcFlag(),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		),
		Action: noArgs(p.replay),
	}
}

// question is what is asked of history, with its times as they were given.
type question struct {
	client.Query
	since, until *instant
}

func (p *program) replayQuery(c *urfave.Context) (q *question, err error) {
	q = &question{}
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
	for flag, at := range map[string]**instant{"since": &q.since, "until": &q.until} {
		t, ok, err := p.timeOf(c, flag)
		if err != nil {
			return q, err
		}
		if ok {
			*at = &t
		}
	}
	if q.since != nil && q.until != nil && q.since.relative == q.until.relative &&
		q.since.resolve(p.now()) >= q.until.resolve(p.now()) {
		return q, usagef("nothing lies between: --since %s is not before --until %s", c.String("since"), c.String("until"))
	}
	if q.since != nil {
		q.Since = q.since.bound()
	}
	if q.until != nil {
		q.Until = q.until.bound()
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

// reportLacking is reportEvicted, and says that a file is damaged.
func reportLacking(stderr io.Writer, k known, strict bool) error {
	err := reportEvicted(stderr, k.evicted, k.exact, strict)
	if k.damaged == 0 {
		return err
	}
	say(stderr, "the file is damaged (met %s times): what stood there is missing from the answer; tbhist db check says where", grouped(k.damaged))
	if strict {
		return errIncomplete
	}
	return err
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
