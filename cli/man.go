package cli

import (
	"io"
	"slices"
	"strconv"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

// writeManual writes the manual page of the program, made of the commands'
// own help.
func writeManual(w io.Writer, app *urfave.App) error {
	page := &roff{}
	page.macro("TH", strings.ToUpper(app.Name), "1", "", app.Name+" "+app.Version, "User Commands")
	page.WriteString(".nh\n.ad l\n") // or names of variables were broken
	page.macro("SH", "NAME")
	page.line(app.Name + " - " + app.Usage)
	page.macro("SH", "SYNOPSIS")
	for _, c := range app.VisibleCommands() {
		page.macro("br")
		synopsis(page, app.Name, c)
	}
	page.macro("SH", "DESCRIPTION")
	page.text(app.Description)
	page.macro("SH", "OPTIONS")
	page.line("These go with every command; those of each command stand with it.")
	page.item("--help, -h", "", "Show the help of the command.")
	page.item("--version, -v", "", "Without a command: print the version.")
	page.macro("SH", "COMMANDS")
	for _, c := range app.VisibleCommands() {
		manualCommand(page, app.Name, c)
	}
	manualEnvironment(page)
	manualFiles(page)
	manualExit(page)
	page.macro("SH", "EXAMPLES")
	page.text(manualExamples)
	_, err := io.WriteString(w, page.String())
	return err
}

// synopsis writes how a command is called.
func synopsis(page *roff, parent string, c *urfave.Command) {
	line := `\fB` + roffText(parent+" "+c.Name) + `\fR`
	var takes []string
	if len(visibleSubcommands(c)) > 0 {
		var names []string
		for _, sub := range visibleSubcommands(c) {
			names = append(names, sub.Name)
		}
		takes = append(takes, strings.Join(names, "|"))
	}
	if hasFlags(c) {
		takes = append(takes, "[FLAGS]")
	}
	if c.ArgsUsage != "" {
		takes = append(takes, c.ArgsUsage)
	}
	if len(takes) > 0 {
		line += ` \fI` + roffText(strings.Join(takes, " ")) + `\fR`
	}
	page.WriteString(line + "\n")
}

// hasFlags tells whether a command, or one below it, takes flags beside
// --help.
func hasFlags(c *urfave.Command) bool {
	return slices.ContainsFunc(c.VisibleFlags(), func(f urfave.Flag) bool { return f.Names()[0] != "help" }) ||
		slices.ContainsFunc(visibleSubcommands(c), hasFlags)
}

func visibleSubcommands(c *urfave.Command) []*urfave.Command {
	var visible []*urfave.Command
	for _, sub := range c.Subcommands {
		if !sub.Hidden {
			visible = append(visible, sub)
		}
	}
	return visible
}

// manualCommand writes a command and those below it.
func manualCommand(page *roff, parent string, c *urfave.Command) {
	name := parent + " " + c.Name
	page.macro("SS", name)
	page.line(sentence(c.Usage))
	page.macro("PP")
	synopsis(page, parent, c)
	if c.Description != "" {
		page.macro("PP")
		page.text(c.Description)
	}
	for _, f := range c.VisibleFlags() {
		if h, ok := helpOf(f); ok && f.Names()[0] != "help" {
			page.item(h.names, h.value, h.text)
		}
	}
	for _, sub := range visibleSubcommands(c) {
		manualCommand(page, name, sub)
	}
}

// sentence makes a whole one of a command's short help.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

func manualEnvironment(page *roff) {
	page.macro("SH", "ENVIRONMENT")
	page.line("The variable of each flag stands with it in brackets. It counts less than the flag; set to nothing, it counts as not set. Beside these there are:")
	for _, v := range [][2]string{
		{"TBHIST_MQTT_USER, TBHIST_MQTT_PASSWORD", "who tbhist adapt mqtt is to the MQTT broker."},
		{"STATE_DIRECTORY", "where tbhist serve keeps tbhist.db unless --db says otherwise; systemd sets it (StateDirectory=)."},
		{"NOTIFY_SOCKET", "where tbhist serve tells that it is ready, and that it closes; systemd sets it (Type=notify)."},
		{"TZ", "the time zone of the times that are read and written."},
	} {
		page.item(v[0], "", v[1])
	}
}

func manualFiles(page *roff) {
	page.macro("SH", "FILES")
	page.item("tbhist.db", "", "The history, in the current directory, or in the one that systemd gives a service. One broker at a time uses it. Copy it only while none does, or with tbhist db backup.")
	page.item("tbhist.yaml", "", "An example of what --config may name: a line \"flag: value\" for each flag of tbhist serve. There is no such file unless it is named.")
	page.item("/var/lib/tbhist/tbhist.db", "", "The history of the service that docs/OPERATIONS.md describes.")
}

func manualExit(page *roff) {
	page.macro("SH", "EXIT STATUS")
	for _, code := range []struct {
		code int
		text string
	}{
		{exitDone, "done; also what goes on for ever, when it is interrupted."},
		{exitFailed, "failed: no broker there, no such Thing, refused, a broker that cannot start, a file that tbhist db check finds something wrong with."},
		{exitUsage, "wrong usage, environment or configuration file."},
		{exitIncomplete, "tbhist replay or db export with --strict: history no longer holds all of the answer. tbhist db backup: a damaged history could not be read as a whole, and the backup has the rest."},
		{exitInterrupted, "a command that would have ended by itself was interrupted."},
	} {
		page.item(strconv.Itoa(code.code), "", code.text)
	}
}

// manualExamples are what people ask for first.
const manualExamples = `Run a broker in the foreground, with its history in this directory:

  tbhist serve

Keep a month of shop, and of all else the newest 1,000 of each Thing:

  tbhist serve --ring 1000 --keep 'shop=unlimited,30d'

Send a reading and wait until it is kept:

  tbhist send shop.bench '{"temperature": 21.5}'

See the last hour of a Thing and all below it, and go on with what comes:

  tbhist replay --ns shop --since 1h --follow

Write today's readings for a spreadsheet:

  tbhist replay --ns shop --since 00:00 --format csv > today.csv

React to each update in a shell:

  tbhist tail --ns shop.door --format json |
    while read -r update; do echo "$update" | jq -r .data; done

Copy the history while the broker runs:

  tbhist db backup /backup/tbhist.db

Take what another broker publishes:

  tbhist adapt thingsbus -s tcp://old-broker:7954`
