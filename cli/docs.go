package cli

import (
	urfave "github.com/urfave/cli/v2"
)

func (p *program) docsCommand() *urfave.Command {
	c := &urfave.Command{
		Name:  "docs",
		Usage: "print documentation that is made from the program itself",
		Description: `Prints the manual page, with every command and flag:

  tbhist docs man | man -l -
  tbhist docs man > /usr/local/share/man/man1/tbhist.1`,
		Subcommands: []*urfave.Command{{
			Name:  "man",
			Usage: "print the manual page tbhist(1), as roff",
			Description: `The page has what --help has, of all commands in one place, and environment,
files and exit codes:

  tbhist docs man | man -l -`,
			Action: noArgs(func(c *urfave.Context) error { return writeManual(p.stdout, c.App) }),
		}},
		Action: func(*urfave.Context) error {
			return usagef("docs needs to know which; tbhist docs --help lists them")
		},
	}
	for _, sub := range c.Subcommands {
		sub.HideHelpCommand = true
		sub.OnUsageError = onUsageError
	}
	return c
}
