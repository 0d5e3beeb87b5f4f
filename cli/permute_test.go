package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	urfave "github.com/urfave/cli/v2"
)

// testCommands have every kind of flag, and a subcommand.
func testCommands() []*urfave.Command {
	broker := &urfave.StringFlag{Name: "broker", Aliases: []string{"b"}}
	return []*urfave.Command{
		{Name: "get", Flags: []urfave.Flag{broker, &urfave.StringFlag{Name: "at"}}},
		{Name: "replay", Flags: []urfave.Flag{
			broker, &urfave.StringFlag{Name: "ns"}, &urfave.BoolFlag{Name: "tree", Value: true}, &urfave.BoolFlag{Name: "follow"},
			&urfave.StringSliceFlag{Name: "keep"},
		}},
		{Name: "send", Flags: []urfave.Flag{broker}},
		{Name: "db", Subcommands: []*urfave.Command{
			{Name: "check", Flags: []urfave.Flag{&urfave.BoolFlag{Name: "deep"}}},
		}},
	}
}

func TestPermute(t *testing.T) {
	for _, c := range []struct{ given, want string }{
		{"", ""},
		{"get x", "get -- x"},
		{"get x --broker B", "get --broker B -- x"},
		{"get --broker B x", "get --broker B -- x"},
		{"--broker B get x", "get --broker B -- x"},
		{"--broker=B get x", "get --broker=B -- x"},
		{"-broker B get x", "get -broker B -- x"},
		{"-b B get x", "get -b B -- x"},
		{"get x --at 1h --broker B", "get --at 1h --broker B -- x"},
		{"--broker B --ns shop replay --tree=false --follow", "replay --broker B --ns shop --tree=false --follow"},
		{"--follow replay --ns shop", "replay --follow --ns shop"},
		{"replay --ns get --follow", "replay --ns get --follow"},
		{"--ns get replay", "replay --ns get"},
		{"replay --keep shop=1000,7d,10MiB --keep =,7d", "replay --keep shop=1000,7d,10MiB --keep =,7d"},
		{"send a -5", "send -- a -5"},
		{"send a -5 --broker B", "send --broker B -- a -5"},
		{"send -0.5e3 --broker B", "send --broker B -- -0.5e3"},
		{"send a -", "send -- a -"},
		{"send --broker B -- a --broker", "send --broker B -- a --broker"},
		{"send a -- --at", "send -- a --at"},
		{"send a -- --", "send -- a --"},
		{"-- get x", "get -- x"},
		{"get --broker -- x", "get --broker -- -- x"}, // the value of a flag is its value
		{"replay --ns -5", "replay --ns -5"},
		{"get help", "get -- help"}, // a Thing may be called so
		{"get h --help", "get --help -- h"},
		{"get --help", "get --help"},
		{"--help get", "get --help"},
		{"-h", "-h"},
		{"help", "--help"},
		{"help get", "get --help"},
		{"h db check", "db check --help"},
		{"--version", "--version"},
		{"-v", "-v"},
		{"db check --deep x", "db check --deep -- x"},
		{"--deep db check", "db check --deep"},
		{"get --bro --generate-bash-completion", "get --generate-bash-completion"},
		{"--generate-bash-completion", "--generate-bash-completion"},
		{"gte --generate-bash-completion", "--generate-bash-completion"},
		{"--broker B rep --broker --generate-bash-completion", "--generate-bash-completion"},
	} {
		got, err := permute(testCommands(), strings.Fields(c.given))
		if err != nil || !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("permute(%s)\n got %q, %v\nwant %s", c.given, got, err, c.want)
		}
	}
}

// Arguments are not looked into: empty ones and those with blanks stay.
func TestPermuteKeepsArguments(t *testing.T) {
	got, err := permute(testCommands(), []string{"send", "", `{"a": -1}`, "--broker", "a b"})
	want := []string{"send", "--broker", "a b", "--", "", `{"a": -1}`}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestPermuteRefuses(t *testing.T) {
	for _, c := range []struct{ given, want string }{
		{"gte x", `there is no command "gte"; did you mean get?`},
		{"zzzzzz", `there is no command "zzzzzz"; tbhist --help`},
		{"db chekc", `there is no command "db chekc"; did you mean check?`},
		{"get x --brokr B", `get has no flag --brokr; did you mean --broker?; tbhist get --help`},
		{"--brokr B get x", `there is no flag --brokr; did you mean --broker?; tbhist --help`},
		{"get x --follow", `get has no flag --follow; tbhist get --help`},
		{"--follow get x", `get has no flag --follow`},
		{"get x --broker", `--broker needs a value; tbhist get --help`},
		{"--ns shop", `--ns needs a command to go with`},
		{"--nonsense", `tbhist has no flag --nonsense`},
		{"get --version", `get has no flag --version`},
		{"replay --no=5", `replay has no flag --no=5; did you mean --ns?`},
	} {
		got, err := permute(testCommands(), strings.Fields(c.given))
		var usage *usageError
		if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("permute(%s) gives %q, %v; want the error %q", c.given, got, err, c.want)
		}
	}
}

// What permute relies on: a name is of one kind wherever it is used. And
// what is promised of every flag: it comes from the environment, too, unless
// it says what is to be deleted.
func TestFlagsOfAllCommands(t *testing.T) {
	kinds := map[string]bool{}
	deletes := []string{"tree", "root", "all", "yes"} // of forget
	for _, c := range new(program).app().Commands {
		if c.Description == "" && c.Name != "version" {
			t.Errorf("%s has no description", c.Name)
		}
		for _, f := range c.Flags {
			d, ok := f.(urfave.DocGenerationFlag)
			if !ok {
				t.Fatalf("%s: flag %v cannot tell its kind", c.Name, f.Names())
			}
			for _, name := range f.Names() {
				if kind, seen := kinds[name]; seen && kind != d.TakesValue() {
					t.Errorf("--%s takes a value in one command and none in another", name)
				}
				kinds[name] = d.TakesValue()
			}
			want := []string{"TBHIST_" + strings.ToUpper(strings.ReplaceAll(f.Names()[0], "-", "_"))}
			if c.Name == "forget" && slices.Contains(deletes, f.Names()[0]) {
				want = nil
			}
			if got := d.GetEnvVars(); !slices.Equal(got, want) {
				t.Errorf("%s --%s comes from %q, want %q", c.Name, f.Names()[0], got, want)
			}
			if d.GetUsage() == "" {
				t.Errorf("%s --%s has no usage", c.Name, f.Names()[0])
			}
		}
	}
}

// FuzzPermute looks for lines that lose or invent words.
func FuzzPermute(f *testing.F) {
	f.Add("get x --broker B")
	f.Add("--broker B send a -5 -- --x")
	commands := testCommands()
	f.Fuzz(func(t *testing.T, line string) {
		given := strings.Fields(line)
		got, err := permute(commands, given)
		if err != nil || slices.Contains(given, completionFlag) || slices.Contains(given, "help") || slices.Contains(given, "h") {
			return
		}
		strip := func(words []string) []string {
			words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "--" })
			slices.Sort(words)
			return words
		}
		if !slices.Equal(strip(got), strip(given)) {
			t.Errorf("%q became %q", given, got)
		}
	})
}
