package cli

import (
	"strings"

	urfave "github.com/urfave/cli/v2"
)

// Columns of a flag's description in the help.
const (
	helpIndent = "   "
	helpWidth  = 70
)

// flagHelp writes a flag for the help: its name on one line, what it does on
// the next ones, so that long texts stay readable on a terminal.
func flagHelp(f urfave.Flag) string {
	d, ok := f.(urfave.DocGenerationFlag)
	if !ok {
		return f.String()
	}
	var out strings.Builder
	for i, name := range f.Names() {
		if i > 0 {
			out.WriteString(", ")
		}
		out.WriteString("--"[:min(2, len(name))] + name)
	}
	// The word in backquotes names the value.
	usage := d.GetUsage()
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		value, after, _ := strings.Cut(rest, "`")
		usage = before + value + after
		out.WriteString(" " + value)
	}
	if text := d.GetDefaultText(); text != "" && text != "false" {
		usage += " (default: " + text + ")"
	}
	if env := d.GetEnvVars(); len(env) > 0 {
		usage += " [$" + strings.Join(env, ", $") + "]"
	}
	return out.String() + wrapped(usage)
}

// wrapped breaks text into indented lines, each on a line of its own.
func wrapped(text string) string {
	var out strings.Builder
	column := helpWidth
	for word := range strings.FieldsSeq(text) {
		if column+1+len(word) > helpWidth {
			out.WriteString("\n" + helpIndent)
			column = 0
		} else {
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += len(word)
	}
	return out.String()
}
