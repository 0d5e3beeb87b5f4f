package cli

import (
	"context"
	"fmt"

	urfave "github.com/urfave/cli/v2"

	"tbhist/store/bolt"
)

func (p *program) dbCompactCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "compact",
		Usage:     "make a history file as small as what it holds",
		ArgsUsage: "FILE",
		Description: `Writes what a file holds into a new one beside it, and puts that in its place:

  sudo systemctl stop tbhist
  tbhist db compact /var/lib/tbhist/tbhist.db
  sudo systemctl start tbhist

No broker may have the file open, and the disk must have room for both. Numbers
and epoch stay, so clients notice nothing. Interrupted at any time, the old file
is whole, or the new one is there.`,
		Flags:  []urfave.Flag{quietFlag()},
		Action: oneFile("history file", p.dbCompact),
	}
}

func (p *program) dbCompact(c *urfave.Context, path string) error {
	w, hide := p.startWorking(c, "copying", nil)
	defer hide()
	return p.finish(func(ctx context.Context) error {
		info, err := bolt.Compact(ctx, path, w.note)
		if err != nil {
			return fileError(path, err)
		}
		p.note(c, "%s: %s before, %s now", path, formatSize(info.Before), formatSize(info.After))
		return nil
	}, func() string { return path + " is as it was" })
}

func (p *program) dbNewEpochCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "new-epoch",
		Usage:     "give a history file another name for clients, for a copy that goes its own way",
		ArgsUsage: "FILE",
		Description: `Gives the history in a file that no broker has open a new epoch, by which
clients tell that it is another one, and prints that alone to standard output:

  cp tbhist.db other.db && tbhist db new-epoch other.db

Needed for a copy made with cp that is to be served beside the original, or
instead of it after that went on. A copy by db backup gets one by itself.`,
		Flags:  []urfave.Flag{quietFlag()},
		Action: oneFile("history file", p.dbNewEpoch),
	}
}

func (p *program) dbNewEpoch(c *urfave.Context, path string) error {
	was, now, err := bolt.NewEpoch(path)
	if err != nil {
		return fileError(path, err)
	}
	p.note(c, "%s was history %s and is %s now", path, was, now)
	_, err = fmt.Fprintln(p.stdout, now)
	return err
}
