package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	urfave "github.com/urfave/cli/v2"

	"tbhist/migrations"
)

func (p *program) dbMigrateCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "migrate",
		Usage:     "bring a history file of an older release up to this one's format",
		ArgsUsage: "FILE",
		Description: `Brings a file up that no broker has open, if an older release wrote it in a
format that this one does not:

  tbhist db migrate tbhist.db --dry-run    what would be done, and the space it takes
  tbhist db migrate tbhist.db

A new file is written beside the old one, and takes its place when it is whole.
The old one is kept as FILE.format-N, for as long as you want it. Interrupted at
any time, the old file is whole and in its place.`,
		Flags: []urfave.Flag{
			toggle("dry-run", false, "only say what would be done"),
			quietFlag(),
		},
		Action: oneFile("history file", p.dbMigrate),
	}
}

func (p *program) dbMigrate(c *urfave.Context, path string) error {
	plan, err := migrations.Look(path)
	if err != nil {
		return fileError(path, err)
	}
	if plan.Found == plan.Current {
		p.note(c, "%s has format %d, the newest: there is nothing to do", path, plan.Found)
		return nil
	}
	p.note(c, "%s has format %d and becomes format %d; %s of free space in %s are needed for that, and the old file is kept as %s",
		path, plan.Found, plan.Current, formatSize(plan.Need), filepath.Dir(path), plan.Kept)
	if c.Bool("dry-run") {
		return nil
	}
	w, hide := p.startWorking(c, "copying", nil)
	defer hide()
	return p.finish(func(ctx context.Context) error {
		plan, err := migrations.Run(ctx, path, migrations.Options{Progress: func(_, _ int, done, total int64) { w.note(done, total) }})
		if err != nil {
			return migrateError(path, err)
		}
		p.note(c, "%s has format %d now; the old file is %s", path, plan.Current, plan.Kept)
		return nil
	}, func() string { return path + " is as it was" })
}

func migrateError(path string, err error) error {
	var space *migrations.SpaceError
	switch {
	case errors.As(err, &space):
		return fmt.Errorf("the disk of %s has %s free, and %s are needed for the new file beside the old one", space.Dir, formatSize(space.Free), formatSize(space.Need))
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: an older file is kept there; move it away first", err)
	}
	return fileError(path, err)
}
