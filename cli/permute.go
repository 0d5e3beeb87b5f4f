package cli

import (
	"cmp"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

// completionFlag is what the shells' completion scripts append.
const completionFlag = "--generate-bash-completion"

// permute rewrites a command line (without the program's name) into the one
// order that the flag package takes: command, flags, "--", arguments. So
// flags may stand anywhere: before the command, between its arguments and
// behind them; "--" ends them. A word that starts with "-" and a digit is an
// argument, for JSON numbers. The word behind a flag that takes a value is
// its value, whatever it looks like.
//
// A flag of one name must be of one kind in every command: before the
// command is known, its kind decides whether the next word is a value.
func permute(commands []*urfave.Command, args []string) ([]string, error) {
	completing := len(args) > 0 && args[len(args)-1] == completionFlag
	if completing {
		args = args[:len(args)-1]
	}
	line := split(flagKinds(commands), args)
	path, command, err := line.resolve(commands)
	if completing {
		// A line that is not finished yet has no errors, only a command.
		return append(path, completionFlag), nil
	}
	if err != nil {
		// The value of a misspelt flag may have been taken for a command.
		return nil, cmp.Or(line.unknown(), err)
	}
	if err := line.check(strings.Join(path, " "), command); err != nil {
		return nil, err
	}
	for _, f := range line.flags {
		path = append(path, f.words...)
	}
	if len(line.args) > 0 {
		path = append(append(path, "--"), line.args...)
	}
	return path, nil
}

// kinds tells of each flag name whether a value follows it.
type kinds map[string]bool

// givenFlag is a flag as it was given, with its value if that was a word of
// its own.
type givenFlag struct {
	name    string
	words   []string
	missing bool // it takes a value and the line ended
}

// commandLine is a line taken apart.
type commandLine struct {
	kinds kinds
	flags []givenFlag
	args  []string
}

func split(k kinds, args []string) *commandLine {
	line := &commandLine{kinds: k}
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			line.args = append(line.args, args[i+1:]...)
			break
		}
		if !isFlag(word) {
			line.args = append(line.args, word)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
		given := givenFlag{name: name, words: []string{word}}
		if k[name] && !hasValue {
			if i++; i < len(args) {
				given.words = append(given.words, args[i])
			} else {
				given.missing = true
			}
		}
		line.flags = append(line.flags, given)
	}
	return line
}

// isFlag tells a flag from an argument: "-" alone and numbers are arguments.
func isFlag(word string) bool {
	return len(word) > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9')
}

// resolve takes the command, and its subcommands, off the arguments. The
// command is nil when none was given.
func (line *commandLine) resolve(commands []*urfave.Command) (path []string, command *urfave.Command, err error) {
	for len(commands) > 0 && len(line.args) > 0 {
		word := line.args[0]
		if command == nil && (word == "help" || word == "h") {
			line.args = line.args[1:]
			line.flags = append(line.flags, givenFlag{name: "help", words: []string{"--help"}})
			continue
		}
		next := findCommand(commands, word)
		if next == nil {
			return path, command, usagef("there is no command %q%s; %s --help lists them",
				strings.Join(append(path, word), " "), didYouMean(word, commandNames(commands)), strings.Join(append([]string{"tbhist"}, path...), " "))
		}
		path = append(path, next.Name)
		line.args = line.args[1:]
		command, commands = next, next.Subcommands
	}
	return path, command, nil
}

// unknown refuses a flag that no command has.
func (line *commandLine) unknown() error {
	for _, f := range line.flags {
		if _, known := line.kinds[f.name]; known {
			continue
		}
		var names []string
		for n := range line.kinds {
			if len(n) > 1 {
				names = append(names, "--"+n)
			}
		}
		return usagef("there is no flag %s%s; tbhist --help tells more", f.words[0], didYouMean("--"+f.name, names))
	}
	return nil
}

// check refuses flags that the command, called name, does not have, and flags
// without the value they need.
func (line *commandLine) check(name string, command *urfave.Command) error {
	own := map[string]bool{"help": true, "h": true}
	help := "tbhist " + name + " --help"
	if command == nil {
		own["version"], own["v"] = true, true
		name, help = "tbhist", "tbhist --help"
	} else {
		for _, f := range command.Flags {
			for _, n := range f.Names() {
				own[n] = true
			}
		}
	}
	var names []string
	for n := range own {
		if len(n) > 1 {
			names = append(names, n)
		}
	}
	for _, f := range line.flags {
		_, known := line.kinds[f.name]
		switch {
		case own[f.name] && f.missing:
			return usagef("--%s needs a value; %s tells which", f.name, help)
		case own[f.name]:
		case command == nil && known:
			return usagef("--%s needs a command to go with; tbhist --help lists them", f.name)
		default:
			return usagef("%s has no flag %s%s; %s lists them", name, f.words[0], didYouMean("--"+f.name, dashed(names)), help)
		}
	}
	return nil
}

// flagKinds collects the flags of all commands.
func flagKinds(commands []*urfave.Command) kinds {
	all := kinds{"help": false, "h": false, "version": false, "v": false}
	var collect func([]*urfave.Command)
	collect = func(commands []*urfave.Command) {
		for _, c := range commands {
			for _, f := range c.Flags {
				value := true
				if d, ok := f.(urfave.DocGenerationFlag); ok {
					value = d.TakesValue()
				}
				for _, n := range f.Names() {
					all[n] = value
				}
			}
			collect(c.Subcommands)
		}
	}
	collect(commands)
	return all
}

func findCommand(commands []*urfave.Command, name string) *urfave.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func commandNames(commands []*urfave.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Names()...)
		}
	}
	return names
}

func dashed(names []string) []string {
	for i := range names {
		names[i] = "--" + names[i]
	}
	return names
}
