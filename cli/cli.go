// Package cli is the tbhist command: one file a subcommand, and in broker.go
// the broker, put together from its parts here and nowhere else.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // local times on machines without a zone database

	urfave "github.com/urfave/cli/v2"
)

// Main runs the program and ends the process with its exit code.
func Main() {
	// A closed pipe ("| head") shall be an error of writing, which ends the
	// command in order, rather than a signal that kills.
	signal.Ignore(syscall.SIGPIPE)
	dropEmpty(os.Environ())
	p := &program{stdout: os.Stdout, stderr: os.Stderr, now: time.Now}
	os.Exit(p.run(os.Args[1:]))
}

// dropEmpty takes variables of this program that are set to nothing for not
// set: the flag package would read "off" in them.
func dropEmpty(environ []string) {
	for _, kv := range environ {
		if name, ok := strings.CutSuffix(kv, "="); ok && strings.HasPrefix(name, "TBHIST_") {
			_ = os.Unsetenv(name)
		}
	}
}

// program is the command line with the world it acts on.
type program struct {
	stdout, stderr io.Writer
	now            func() time.Time
}

// run carries out one command line and gives the exit code.
func (p *program) run(args []string) int {
	app := p.app()
	args, err := permute(app.Commands, args)
	if err == nil {
		err = app.Run(append([]string{app.Name}, args...))
	}
	return report(p.stderr, err)
}

func (p *program) app() *urfave.App {
	urfave.FlagStringer = flagHelp
	urfave.VersionPrinter = func(*urfave.Context) { _ = p.printVersion() }
	app := &urfave.App{
		Name:    "tbhist",
		Usage:   "a broker for sensor data that keeps its history",
		Version: version(),
		Description: `Start a broker, which needs no flag, and speak to it:

  tbhist serve
  tbhist send spacemon.electronics '{"luminance": 106.09}'
  tbhist replay --ns spacemon --since 1h

Flags may stand anywhere, and may come from the environment instead: --broker
from TBHIST_BROKER. (Only what tells forget what to delete may not.) Results go
to stdout, all else to stderr. Exit code: 0 done, 1 failed, 2 wrong usage, 3
incomplete, 130 interrupted.`,
		Commands: []*urfave.Command{
			p.serveCommand(),
			p.replayCommand(),
			p.tailCommand(),
			p.thingsCommand(),
			p.getCommand(),
			p.refusedCommand(),
			p.sendCommand(),
			p.adaptCommand(),
			p.healthCommand(),
			p.forgetCommand(),
			p.dbCommand(),
			p.zoneCommand(),
			p.versionCommand(),
			p.completionCommand(),
			p.docsCommand(),
		},
		Writer:                    p.stdout,
		ErrWriter:                 p.stderr,
		HideHelpCommand:           true, // permute knows "help"
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true, // a value of --keep has commas
		OnUsageError:              onUsageError,
		ExitErrHandler:            func(*urfave.Context, error) {}, // report does it
	}
	for _, c := range app.Commands {
		c.HideHelpCommand = true // or "get help" were no Thing
		c.OnUsageError = onUsageError
	}
	return app
}

func onUsageError(c *urfave.Context, err error, _ bool) error {
	help := "tbhist --help"
	if c.Command != nil && c.Command.Name != "tbhist" {
		help = c.Command.HelpName + " --help"
	}
	return usagef("%v; see %s", err, help)
}

// noArgs wraps an action that takes flags only.
func noArgs(action func(*urfave.Context) error) func(*urfave.Context) error {
	return func(c *urfave.Context) error {
		if c.NArg() > 0 {
			return usagef("%s takes no argument, but got %q; see %s --help", c.Command.Name, c.Args().First(), c.Command.HelpName)
		}
		return action(c)
	}
}

// interruptible runs a client command with a context that SIGINT and SIGTERM
// end; a second one kills. A command that goes on for ever is done when it
// is interrupted; a finite one was not.
func interruptible(forever bool, f func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := f(ctx)
	switch {
	case ctx.Err() == nil:
		return err
	case forever && (err == nil || errors.Is(err, context.Canceled)):
		return nil
	}
	return errInterrupted
}
