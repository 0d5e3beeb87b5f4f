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
	h, ok := helpOf(f)
	if !ok {
		return f.String()
	}
	head := h.names
	if h.value != "" {
		head += " " + h.value
	}
	return head + wrapped(h.text)
}

// flagText is a flag as the help shows it.
type flagText struct {
	names string // all of them, "--ns" or "--sources, -s"
	value string // the word for what it takes
	text  string // what it does, its default and its variable
}

// helpOf takes a flag's help apart; ok is false for one without.
func helpOf(f urfave.Flag) (h flagText, ok bool) {
	d, ok := f.(urfave.DocGenerationFlag)
	if !ok {
		return h, false
	}
	var names []string
	for _, name := range f.Names() {
		names = append(names, "--"[:min(2, len(name))]+name)
	}
	h.names = strings.Join(names, ", ")
	// The word in backquotes names the value.
	h.text = d.GetUsage()
	if before, rest, ok := strings.Cut(h.text, "`"); ok {
		value, after, _ := strings.Cut(rest, "`")
		h.text, h.value = before+value+after, value
	}
	if text := d.GetDefaultText(); text != "" && text != "false" {
		h.text += " (default: " + text + ")"
	}
	if env := d.GetEnvVars(); len(env) > 0 {
		h.text += " [$" + strings.Join(env, ", $") + "]"
	}
	return h, true
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
