package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"tbhist/client"
	"tbhist/internal/wire"
	"tbhist/thing"
)

// source is what answers a question: a broker or a file.
type source interface {
	replay(ctx context.Context, q *question) answer
	// things gives the names of the Things that there are.
	things(ctx context.Context) ([]string, error)
	close() error
}

// answer is what a source has to say, once.
type answer interface {
	updates() iter.Seq2[client.Update, error]
	// knows tells what is known so far, between two updates and at the end.
	knows() known
}

// known is what an answer tells beside its updates.
type known struct {
	evicted uint64
	exact   bool
	damaged uint64 // places of damage met in a file
	head    uint64
	epoch   string
}

// brokerSource asks a broker.
type brokerSource struct {
	client  *client.Client
	options []client.ReplayOption
}

func (s *brokerSource) replay(ctx context.Context, q *question) answer {
	return &brokerAnswer{s.client.Replay(ctx, q.Query, s.options...)}
}

func (s *brokerSource) things(ctx context.Context) ([]string, error) { return thingsOf(ctx, s.client) }

func (s *brokerSource) close() error { return nil }

type brokerAnswer struct{ *client.Replay }

func (a *brokerAnswer) updates() iter.Seq2[client.Update, error] { return a.Updates() }

func (a *brokerAnswer) knows() known {
	return known{evicted: a.Evicted, exact: a.EvictedExact, head: a.Head, epoch: a.Epoch}
}

// replaying is one run of the command.
type replaying struct {
	p        *program
	question *question
	source   source
	strict   bool
	out      *bufio.Writer // of printer
	printer  updatePrinter
	feeder   *feeder   // the printer, if it sends to a broker
	pace     *pace     // nil makes no pauses
	progress *progress // nil shows nothing
	count    uint64    // updates printed
}

func (p *program) replay(c *urfave.Context) (err error) {
	r := &replaying{p: p, strict: c.Bool("strict")}
	follow := c.Bool("follow")
	if r.question, err = p.replayQuery(c); err != nil {
		return err
	}
	file, err := fromDB(c)
	if err != nil {
		return err
	}
	speed, err := parseSpeed(c.String("speed"))
	if err != nil {
		return err
	}
	if speed > 0 && follow {
		return usagef("--speed makes the pauses that there were, and --follow would never get to now: leave one out")
	}
	if err := r.outputOf(c); err != nil {
		return err
	}
	if speed > 0 {
		r.pace = &pace{speed: speed, byTS: r.question.ByTS, idle: r.idle}
	}
	var cl *client.Client
	if file == "" {
		if cl, err = p.dial(c); err != nil {
			return err
		}
		from := &brokerSource{client: cl}
		if r.pace != nil || r.feeder != nil {
			from.options = append(from.options, client.Resumable(p.sayConnection))
		}
		r.source = from
	} else if r.source, err = p.openDB(file); err != nil {
		return err
	}
	defer r.showProgress(c, follow)()
	err = interruptible(follow, func(ctx context.Context) error {
		switch {
		case r.feeder != nil:
			return r.feed(ctx, cl, follow)
		case follow:
			err := p.follow(ctx, cl, r.question.Query, r.out, r.printer, r.strict)
			r.sayLacking()
			return err
		}
		return r.run(ctx)
	})
	return errors.Join(err, r.source.close())
}

// outputOf makes the printer: it prints, or with --to, sends.
func (r *replaying) outputOf(c *urfave.Context) (err error) {
	if r.feeder, err = r.p.feederOf(c, r.question); err != nil {
		return err
	}
	if r.feeder != nil {
		r.out, r.printer = bufio.NewWriter(io.Discard), r.feeder
		return nil
	}
	r.out = bufio.NewWriterSize(r.p.stdout, 64<<10)
	format, times := c.String("format"), clock{c.Bool("utc")}
	if paths := c.String("fields"); paths != "" {
		fields, err := parseFields(paths)
		if err != nil {
			return err
		}
		r.printer, err = newFieldsPrinter(r.out, format, times, r.question.ByTS, fields)
		return err
	}
	r.printer, err = newUpdatePrinter(r.out, format, times, r.question.ByTS)
	return err
}

// run prints one answer.
func (r *replaying) run(ctx context.Context) error {
	answer := r.source.replay(ctx, r.question)
	if err := flushed(r.out, r.each(ctx, answer)); err != nil { // what came before is good
		return err
	}
	r.sayLacking()
	k := answer.knows()
	if r.count == 0 && k.evicted == 0 {
		r.sayUnknown(ctx)
	}
	return reportLacking(r.p.stderr, k, r.strict)
}

// each prints the updates of an answer.
func (r *replaying) each(ctx context.Context, a answer) error {
	if b, ok := a.(*brokerAnswer); ok && r.pace == nil {
		if lines, ok := r.printer.(linePrinter); ok {
			return r.eachLine(b, lines)
		}
	}
	for u, err := range a.updates() {
		if err == nil && r.pace != nil {
			err = r.pace.wait(ctx, &u)
		}
		if err == nil {
			err = r.printer.print(&u)
		}
		if err != nil {
			return err
		}
		r.count++
		r.progress.note(&u, a.knows().head)
	}
	return nil
}

// eachLine hands lines on as they are, and looks into them for the progress
// alone.
func (r *replaying) eachLine(b *brokerAnswer, lines linePrinter) error {
	for line, err := range b.Lines() {
		if err == nil {
			err = lines.printLine(line)
		}
		if err != nil {
			return err
		}
		r.count++
		if r.progress == nil {
			continue
		}
		if u, err := wire.ParseUpdate(line); err == nil {
			r.progress.note(&u, b.Head)
		}
	}
	return nil
}

// idle is called before a pause: what was printed is to be seen then.
func (r *replaying) idle(pause time.Duration) error {
	if r.feeder != nil {
		return r.feeder.idle(pause)
	}
	return r.out.Flush()
}

// showProgress shows how far it is, if somebody is there to see it, until
// hide is called.
func (r *replaying) showProgress(c *urfave.Context, follow bool) (hide func()) {
	if follow || !isTerminal(r.p.stderr) || r.feeder == nil && isTerminal(r.p.stdout) {
		return func() {}
	}
	return r.startProgress(c)
}

// startProgress shows how far it is on the terminal.
func (r *replaying) startProgress(c *urfave.Context) (hide func()) {
	p := r.p
	r.progress = &progress{liveLine: liveLine{w: p.stderr}, clock: clock{c.Bool("utc")}, limit: r.question.Limit}
	if until := r.question.until; until != nil && !r.question.ByTS {
		r.progress.until = min(until.resolve(p.now()), thing.MicrosOf(p.now()))
	}
	p.stderr = r.progress
	r.progress.start()
	return func() {
		r.progress.stop()
		p.stderr = r.progress.w
	}
}

// sayLacking tells of --fields that no update had.
func (r *replaying) sayLacking() {
	if f, ok := r.printer.(*fieldsPrinter); ok {
		switch paths := f.lacking(); len(paths) {
		case 0:
		case 1:
			say(r.p.stderr, "no update had %s%s", paths[0], f.meant(paths[0]))
		default:
			say(r.p.stderr, "no update had %s", strings.Join(paths, ", nor "))
		}
	}
}

// sayUnknown tells of a --ns that names no Thing: of an answer without updates
// nobody could tell.
func (r *replaying) sayUnknown(ctx context.Context) {
	name := r.question.Name
	if name == "" {
		return
	}
	names, err := r.source.things(ctx)
	if err != nil || slices.ContainsFunc(names, func(n string) bool {
		return n == string(name) || !r.question.Alone && thing.Name(n).Under(name)
	}) {
		return
	}
	say(r.p.stderr, "there is no Thing %s%s", name, suggestThing(name, withParents(names)))
}

// sayConnection tells of a connection that is lost, and of one that is back.
func (p *program) sayConnection(err error) {
	if err == nil {
		p.sayBack()
		return
	}
	p.sayLost(err)
}
