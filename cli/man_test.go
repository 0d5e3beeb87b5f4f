package cli

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	urfave "github.com/urfave/cli/v2"
)

// manual gives the page and the commands it is about.
func manual(t *testing.T) (page string, app *urfave.App) {
	t.Helper()
	var out bytes.Buffer
	p := &program{stdout: &out, stderr: os.Stderr, now: time.Now}
	if code := p.run([]string{"docs", "man"}); code != exitDone {
		t.Fatalf("tbhist docs man ends with %d", code)
	}
	return out.String(), p.app()
}

// plain gives the words of a section's text as a reader sees them, one space
// between two.
func plain(page string) string {
	var out strings.Builder
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, ".") {
			continue
		}
		out.WriteString(line)
	}
	return oneSpaced(strings.NewReplacer(
		`\fB`, "", `\fI`, "", `\fR`, "", `\&`, "",
		`\e`, `\`, `\-`, "-", `\(aq`, "'", `\(dq`, `"`, `\(ga`, "`", `\(ha`, "^", `\(ti`, "~", `\[u2026]`, "…",
	).Replace(out.String()))
}

func oneSpaced(s string) string { return strings.Join(strings.Fields(s), " ") }

// Each command that --help shows is in the page with all that its own --help
// says, each flag with its variable.
func TestManualHasAll(t *testing.T) {
	page, app := manual(t)
	sections := strings.Split(page, "\n.SS ")[1:]
	var commands, flags int
	var check func(parent string, all []*urfave.Command)
	check = func(parent string, all []*urfave.Command) {
		for _, c := range all {
			name := parent + " " + c.Name
			i := slices.IndexFunc(sections, func(s string) bool { return strings.HasPrefix(s, `"`+roffText(name)+"\"\n") })
			if c.Hidden {
				if i >= 0 {
					t.Errorf("%s is hidden, and in the page", name)
				}
				continue
			}
			if i < 0 {
				t.Errorf("%s is not in the page", name)
				continue
			}
			commands++
			section, _, _ := strings.Cut(sections[i], "\n.SH ")
			section = plain(section)
			if !strings.Contains(section, sentence(c.Usage)) || !strings.Contains(section, oneSpaced(c.Description)) {
				t.Errorf("%s: its help is not in the page, but\n%s", name, section)
			}
			for _, f := range c.VisibleFlags() {
				h, ok := helpOf(f)
				if !ok || f.Names()[0] == "help" {
					continue
				}
				flags++
				if want := oneSpaced(h.names + " " + h.value + " " + h.text); !strings.Contains(section, want) {
					t.Errorf("%s: %q is not in its part of the page", name, want)
				}
				if d, ok := f.(urfave.DocGenerationFlag); ok && len(d.GetEnvVars()) == 0 {
					continue // TestFlagsOfAllCommands knows which
				}
				if variable := "[$" + envName(f.Names()[0])[0] + "]"; !strings.Contains(h.text, variable) {
					t.Errorf("%s: %q does not tell of %s", name, h.text, variable)
				}
			}
			check(name, c.Subcommands)
		}
	}
	check("tbhist", app.Commands)
	if commands < 16 || flags < 100 {
		t.Errorf("only %d commands with %d flags were looked at", commands, flags)
	}
	for _, want := range []string{"SH NAME", "SH ENVIRONMENT", "SH FILES", "SH EXIT STATUS", "SH EXAMPLES", `\fB130\fR`} {
		if !strings.Contains(strings.ReplaceAll(page, `"`, ""), want) {
			t.Errorf("no %q in the page", want)
		}
	}
}

var (
	roffRequest = regexp.MustCompile(`^\.(TH|SH|SS)( "[^"]*")+$|^\.(TP|PP|RS 4|RE|nf|fi|br|nh|ad l)$`)
	roffEscape  = regexp.MustCompile(`\\(f[BIR]|&|e|-|\((aq|dq|ga|ha|ti)|\[u[0-9A-F]{4,5}\])`)
)

// Every line is what groff and mandoc take: a request of those used here, or
// text in which nothing is left unescaped; what is begun is ended.
func TestManualIsRoff(t *testing.T) {
	page, _ := manual(t)
	if !strings.HasPrefix(page, ".TH ") {
		t.Error("it does not begin with .TH")
	}
	filled, depth := true, 0
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		rest := roffEscape.ReplaceAllString(line, "")
		switch {
		case strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }):
			t.Errorf("not ASCII: %q", line)
		case strings.HasPrefix(line, ".") && !roffRequest.MatchString(line):
			t.Errorf("no request known here: %q", line)
		case strings.HasPrefix(line, "'"), strings.Contains(rest, `\`), strings.ContainsAny(rest, "'`^~"),
			!strings.HasPrefix(line, ".") && strings.ContainsAny(rest, `-"`):
			t.Errorf("not escaped: %q", line)
		case line == "" && filled:
			t.Error("an empty line outside of an example")
		}
		switch line {
		case ".nf", ".fi":
			if filled == (line == ".fi") {
				t.Errorf("%s twice", line)
			}
			filled = line == ".fi"
		case ".RS 4":
			depth++
		case ".RE":
			depth--
		}
		if depth < 0 || depth > 1 {
			t.Fatalf("%d indentations at %q", depth, line)
		}
	}
	if !filled || depth != 0 {
		t.Error("an example has no end")
	}
}

func TestRoffText(t *testing.T) {
	r := &roff{}
	r.line(`.x \n 'a' "b" --c-d ~^` + "` …")
	r.text("one\ntwo\n\n  $ x --y\n\n  .z\nthree")
	const want = `\&.x \en \(aqa\(aq \(dqb\(dq \-\-c\-d \(ti\(ha\(ga \[u2026]
one
two
.PP
.RS 4
.nf
$ x \-\-y

\&.z
.fi
.RE
.PP
three
`
	if got := r.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
