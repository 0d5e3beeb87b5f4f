package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// documents are those that show commands.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"README.md", "CHANGELOG.md", "docs/*.md", "docs/examples/*.md"} {
		files, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		all = append(all, files...)
	}
	return all
}

var (
	inBackquotes = regexp.MustCompile("`(tbhist [^`]+)`")
	// Where the program is called: at the beginning, or behind what may
	// stand before a command in a shell.
	called = regexp.MustCompile(`(?:^|[|&;(]\s*|\bdo |\bsudo |/bin/|\./|ExecStart=\S*/|\$ |[^\S\n]>\s*\()tbhist ([a-z-].*)`)
)

// shellLines gives the command lines that a document shows: in blocks, and in
// backquotes within text, there as far as they are not abridged.
func shellLines(document string) []string {
	var lines []string
	fenced, joined := "", ""
	for line := range strings.Lines(document) {
		line = strings.TrimRight(line, "\n")
		if language, ok := strings.CutPrefix(line, "```"); ok {
			if fenced == "" {
				fenced = "in " + language
			} else {
				fenced = ""
			}
			continue
		}
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case fenced == "in console", fenced == "in sh", fenced == "in ini":
			code = line
		case fenced != "":
			continue
		case !indented:
			for _, m := range inBackquotes.FindAllStringSubmatch(line, -1) {
				if !strings.ContainsAny(m[1], "…") && !strings.Contains(m[1], "COMMAND") {
					lines = append(lines, m[1])
				}
			}
			continue
		}
		if before, ok := strings.CutSuffix(code, `\`); ok {
			joined += before
			continue
		}
		lines = append(lines, strings.TrimSpace(joined+strings.TrimSpace(code)))
		joined = ""
	}
	return lines
}

// words splits the first command of a line as a shell does, up to what ends
// it there.
func words(line string) []string {
	var all []string
	var word strings.Builder
	begun, quote, depth := false, rune(0), 0
	end := func() {
		if begun {
			all = append(all, word.String())
		}
		word.Reset()
		begun = false
	}
	for i, c := range line {
		switch {
		case quote != 0 && c == quote && depth == 0:
			quote = 0
		case quote != 0:
			if c == '(' && strings.HasSuffix(line[:i], "$") {
				depth++
			} else if c == ')' && depth > 0 {
				depth--
			}
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ':
			end()
		case strings.ContainsRune("|&;<>)", c), c == '#' && !begun:
			end()
			return all
		default:
			begun = true
			word.WriteRune(c)
		}
	}
	end()
	return all
}

// Every tbhist command line that the documentation shows is one that the
// program takes: its command is known, and so are its flags.
func TestDocumentedCommands(t *testing.T) {
	app := (&program{stdout: os.Stdout, stderr: os.Stderr, now: time.Now}).app()
	found := map[string]int{}
	for _, file := range documents(t) {
		document, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range shellLines(string(document)) {
			m := called.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			found[filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file)]++
			args := words(m[1])
			if _, err := permute(app.Commands, args); err != nil {
				t.Errorf("%s: tbhist %q: %v", file, args, err)
			}
		}
	}
	for file, least := range map[string]int{"../README.md": 15, "docs/GUIDE.md": 18, "docs/MIGRATE.md": 12, "docs/OPERATIONS.md": 16, "examples/README.md": 2} {
		if found[file] < least {
			t.Errorf("%s: only %d command lines were found", file, found[file])
		}
	}
}

func TestShellLines(t *testing.T) {
	const document = "text `tbhist things --wide` and `tbhist adapt …`\n\n    $ tbhist tail \\\n      --ns shop  # live\n\n```console\n$ tbhist get x | jq .\n```\n" +
		"```python\ntbhist nothing\n```\n"
	want := []string{"tbhist things --wide", "$ tbhist tail --ns shop  # live", "$ tbhist get x | jq ."}
	var got []string
	for _, line := range shellLines(document) {
		if called.MatchString(line) {
			got = append(got, line)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	for line, want := range map[string]string{
		`send a '{"b": 1}' --ts 5`:      `send|a|{"b": 1}|--ts|5`,
		`send a "$(cut -d' ' -f1 x)" b`: `send|a|$(cut -d' ' -f1 x)|b`,
		`get x | jq .`:                  `get|x`,
		`tail  # live`:                  `tail`,
		`serve; done`:                   `serve`,
		`get ''`:                        `get|`,
	} {
		if got := strings.Join(words(line), "|"); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// What the guide shows of programs in Go is what can be run.
func TestGuideShowsExamples(t *testing.T) {
	guide, err := os.ReadFile("../docs/GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sensor", "alarm"} {
		source, err := os.ReadFile(filepath.Join("..", "docs", "examples", name, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(guide), "```go\n"+string(source)+"```\n") {
			t.Errorf("docs/GUIDE.md does not show docs/examples/%s/main.go as it is", name)
		}
	}
}
