// Command bench measures tbhist against what a user would pick instead, in
// one run on one machine: NATS JetStream, Redis Streams, and the floor of
// what a disk allows. Each is a process of its own on the loopback, with its
// files in a temporary directory. From the top of the repository:
//
//	go -C internal/bench run .                  the default rows
//	go -C internal/bench run . -full            all of them
//	go -C internal/bench run . -run throughput  single rows
//	go -C internal/bench run . -list            what there is
//
// Of several rounds that take turns the medians count. Ratios are printed
// first: absolute figures are those of the machine and of the minute.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if dir := os.Getenv(natsChildEnv); dir != "" {
		os.Exit(exitCode(natsChild(dir)))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(exitCode(run(ctx, os.Args[1:])))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 2
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// options are what the command line says.
type options struct {
	full, quick, json, list bool
	run                     string
	rounds                  int
	scale                   float64
	soak                    time.Duration
	dir, profile, redis     string
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.full, "full", false, "all rows, not only the default ones")
	flags.BoolVar(&o.quick, "quick", false, "one round of a twentieth of the updates: does it run at all?")
	flags.BoolVar(&o.json, "json", false, "only the JSON line")
	flags.BoolVar(&o.list, "list", false, "list the rows")
	flags.StringVar(&o.run, "run", "", "only these `rows`, separated by commas")
	flags.IntVar(&o.rounds, "rounds", 3, "how many `rounds` are made, of which the median counts")
	flags.Float64Var(&o.scale, "scale", 1, "make this many `times` the updates")
	flags.DurationVar(&o.soak, "soak", 30*time.Minute, "how `long` the row soak takes, times -scale")
	flags.StringVar(&o.dir, "dir", "", "`directory` on the disk to measure (default: that for temporary files)")
	flags.StringVar(&o.profile, "profile", "", "write CPU profiles of the broker while it is measured to this `directory`")
	flags.StringVar(&o.redis, "redis", "redis-server", "the Redis `program`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.rounds < 1 || o.scale <= 0 {
		return errors.New("-rounds is at least 1, -scale more than 0")
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("no arguments are taken, but there is %q", flags.Arg(0))
	}
	if o.list {
		for _, r := range rows {
			fmt.Printf("%-12s %s%s\n", r.name, r.about, map[bool]string{true: " (-full)"}[r.full])
		}
		return nil
	}
	chosen, err := choose(&o)
	if err != nil {
		return err
	}
	progress := io.Writer(os.Stderr)
	if o.json {
		progress = io.Discard
	}
	b, err := newBench(ctx, o, progress)
	if err != nil {
		return err
	}
	rep, err := b.measure(ctx, chosen)
	err = errors.Join(err, b.close())
	if rep != nil {
		err = errors.Join(err, rep.print(os.Stdout, o.json))
	}
	return err
}

// choose gives the rows that are to be run.
func choose(o *options) ([]row, error) {
	var chosen []row
	if o.run == "" {
		for _, r := range rows {
			if !r.full || o.full {
				chosen = append(chosen, r)
			}
		}
		return chosen, nil
	}
	for name := range strings.SplitSeq(o.run, ",") {
		found := false
		for _, r := range rows {
			if r.name == name {
				chosen, found = append(chosen, r), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no row %q; -list shows them", name)
		}
	}
	return chosen, nil
}

// measure runs the rows. What was measured is given even where a row failed.
func (b *bench) measure(ctx context.Context, chosen []row) (*report, error) {
	rep := &report{Time: time.Now().UTC().Truncate(time.Second), Quick: b.quick, Rounds: b.rounds}
	rep.Machine.begin(b.dir)
	var failed error
	for _, r := range chosen {
		if ctx.Err() != nil {
			failed = errors.Join(failed, ctx.Err())
			break
		}
		start, ticks := time.Now(), readTicks()
		fmt.Fprintf(b.progress, "%s: %s\n", r.name, r.about)
		res := &result{Row: r.name}
		if err := r.run(ctx, b, res); err != nil {
			err = fmt.Errorf("%s: %w", r.name, err)
			failed = errors.Join(failed, err)
			res.note("%v", err)
		}
		res.Seconds, res.Load, res.Steal = time.Since(start).Seconds(), load(), ticks.stolen()
		fmt.Fprintf(b.progress, "%s: %.1f s\n", r.name, res.Seconds)
		rep.Rows = append(rep.Rows, res)
	}
	rep.Machine.end()
	return rep, failed
}
