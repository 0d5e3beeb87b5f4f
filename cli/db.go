package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	urfave "github.com/urfave/cli/v2"

	"tbhist/migrations"
	"tbhist/store"
)

func (p *program) dbCommand() *urfave.Command {
	c := &urfave.Command{
		Name:  "db",
		Usage: "look after a history: backup, stats, export, import, check, compact",
		Description: `Of a running broker:

  tbhist db stats                        what takes the room
  tbhist db backup /backup/tbhist.db     a copy, while it runs
  tbhist db export shop.json --ns shop   updates as lines of JSON

Of a file that nobody has open:

  tbhist db check tbhist.db
  tbhist db compact tbhist.db
  tbhist db import shop.json --db tbhist.db

stats and backup are answered to programs on the broker's own machine, and to
others with the token of serve --http-token. All of them may be interrupted: a
file then is as it was, or as it is said.`,
		Subcommands: []*urfave.Command{
			p.dbStatsCommand(),
			p.dbBackupCommand(),
			p.dbExportCommand(),
			p.dbImportCommand(),
			p.dbCheckCommand(),
			p.dbCompactCommand(),
			p.dbNewEpochCommand(),
			p.dbMigrateCommand(),
		},
		Action: func(*urfave.Context) error {
			return usagef("db needs to know what to do; tbhist db --help lists it")
		},
	}
	for _, sub := range c.Subcommands {
		sub.HideHelpCommand = true
		sub.OnUsageError = onUsageError
	}
	return c
}

// oneFile wraps an action that takes the name of one file.
func oneFile(what string, action func(c *urfave.Context, path string) error) func(*urfave.Context) error {
	return func(c *urfave.Context) error {
		if c.NArg() != 1 || c.Args().First() == "" {
			return usagef("db %s takes the name of one %s; tbhist db %[1]s --help", c.Command.Name, what)
		}
		return action(c, c.Args().First())
	}
}

func tokenFlag() urfave.Flag {
	return text("token", "", "`TOKEN` of serve --http-token, for a broker on another machine; better in $TBHIST_TOKEN than here, where ps shows it")
}

func quietFlag() urfave.Flag {
	return toggle("quiet", false, "say nothing but what went wrong")
}

// finish runs what ends by itself. When it is interrupted before it is done,
// state says how things are now.
func (p *program) finish(f func(ctx context.Context) error, state func() string) error {
	var result error
	err := interruptible(false, func(ctx context.Context) error {
		result = f(ctx)
		return result
	})
	if !errors.Is(err, errInterrupted) {
		return err
	}
	if result == nil { // it was done by then
		return nil
	}
	say(p.stderr, "interrupted: %s", state())
	return err
}

// note says what was done, unless --quiet.
func (p *program) note(c *urfave.Context, format string, args ...any) {
	if !c.Bool("quiet") {
		say(p.stderr, format, args...)
	}
}

// fileError says in one sentence why something cannot be done with a history
// file, and what to do.
func fileError(path string, err error) error {
	var newer *migrations.NewerError
	var older *migrations.OlderError
	var damage *store.CorruptionError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, store.ErrLocked):
		holder := lockHolder(path)
		if holder == "" {
			holder = "another process"
		}
		return fmt.Errorf("the history %s is in use by %s: stop that first, or work on a copy: tbhist db backup makes one of a running broker", path, holder)
	case errors.As(err, &newer):
		return fmt.Errorf("the history %s was written by a newer tbhist (format %d, this one knows up to %d): use that one", path, newer.Found, newer.Current)
	case errors.As(err, &older):
		return fmt.Errorf("the history %s has the older format %d: tbhist db migrate %[1]s brings it up", path, older.Found)
	case errors.Is(err, store.ErrNotHistory):
		return fmt.Errorf("%s is not a tbhist history", path)
	case errors.Is(err, store.ErrDamaged), errors.As(err, &damage):
		return fmt.Errorf("the history %s is damaged (tbhist db check %[1]s says where): use a backup, or let tbhist serve open a copy of it, which sets aside what is damaged (%w)", path, err)
	case errors.Is(err, fs.ErrNotExist):
		var where *fs.PathError
		if errors.As(err, &where) && where.Path != path {
			return fmt.Errorf("there is no %s", where.Path)
		}
		return fmt.Errorf("there is no file %s", path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("this user may not do that with %s: %w", path, err)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s is a directory: a history is a file, such as %[1]s/tbhist.db", path)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("the disk of %s is full: free some (%w)", path, err)
	}
	return err
}

// things counts them in words.
func things(n int) string {
	if n == 1 {
		return "1 Thing"
	}
	return grouped(uint64(n)) + " Things"
}

// textOrJSON reads --format of commands that have no CSV.
func textOrJSON(c *urfave.Context, plain string) (asJSON bool, err error) {
	switch format := c.String("format"); format {
	case plain, "":
		return false, nil
	case formatJSON:
		return true, nil
	default:
		return false, usagef("--format: %q is neither %s nor json", format, plain)
	}
}
