package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	urfave "github.com/urfave/cli/v2"
)

func (p *program) dbExportCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "export",
		Usage:     "write updates as lines of JSON",
		ArgsUsage: "[FILE|-]",
		Description: `Writes updates as lines of JSON, oldest first, to a file or to standard output:

  tbhist db export all.json
  tbhist db export shop.json --ns shop --since 30d
  tbhist db export - --from-db old.db | gzip > old.json.gz

The lines are those of the live feed, with numbers and times; db import takes
them. A FILE that is there is replaced when all is written, and stays as it is
otherwise. replay writes other forms, and follows.`,
		Flags: append(questionFlags(),
			toggle("strict", false, "exit with 3 if history no longer holds all of the answer"),
			text("from-db", "", "`FILE` with a history to read, instead of asking a broker: a backup, or that of a broker that is stopped"),
			quietFlag(),
			brokerFlag(),
			zoneFlag(),
			dnsFlag(),
		),
		Action: p.dbExport,
	}
}

func (p *program) dbExport(c *urfave.Context) (err error) {
	if c.NArg() > 1 {
		return usagef("db export takes the name of one file to write; tbhist db export --help")
	}
	path := c.Args().First()
	r := &replaying{p: p, strict: c.Bool("strict")}
	if r.question, err = p.replayQuery(c); err != nil {
		return err
	}
	from, err := fromDB(c)
	if err != nil {
		return err
	}
	if from == "" {
		cl, err := p.dial(c)
		if err != nil {
			return err
		}
		r.source = &brokerSource{client: cl}
	} else if r.source, err = p.openDB(from); err != nil {
		return err
	}
	printer := &jsonPrinter{}
	r.printer = printer
	err = p.finish(func(ctx context.Context) error {
		if path == "" || path == "-" {
			if !c.Bool("quiet") {
				defer r.showProgress(c, false)()
			}
			r.out = bufio.NewWriterSize(p.stdout, 64<<10)
			printer.w = r.out
			return r.run(ctx)
		}
		return r.export(ctx, c, path, printer)
	}, func() string {
		if path == "" || path == "-" {
			return fmt.Sprintf("what was written is not all; it has %s", updates(r.count))
		}
		return "nothing was exported; a file of that name is as it was"
	})
	return errors.Join(err, r.source.close())
}

// export writes the answer to a file.
func (r *replaying) export(ctx context.Context, c *urfave.Context, path string, printer *jsonPrinter) error {
	file, err := newWholeFile(path)
	if err != nil {
		return err
	}
	r.out, printer.w = file.Writer, file.Writer
	if !c.Bool("quiet") && isTerminal(r.p.stderr) {
		defer r.startProgress(c)()
	}
	err = r.run(ctx)
	incomplete := errors.Is(err, errIncomplete)
	if incomplete { // which all the same is all that there is
		err = nil
	}
	if err := file.finish(err); err != nil {
		return err
	}
	r.p.note(c, "%s: %s", path, updates(r.count))
	if incomplete {
		return errIncomplete
	}
	return nil
}
