package cli

import (
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

func (p *program) completionCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands and flags in your shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `Put the script where your shell finds it:

  tbhist completion bash > ~/.local/share/bash-completion/completions/tbhist
  tbhist completion zsh > "${fpath[1]}/_tbhist"
  tbhist completion fish > ~/.config/fish/completions/tbhist.fish`,
		Action: func(c *urfave.Context) error {
			if c.NArg() != 1 {
				return usagef("completion takes the name of a shell: bash, zsh or fish")
			}
			script := ""
			switch shell := c.Args().First(); shell {
			case "bash":
				script = bashScript
			case "zsh":
				script = zshScript
			case "fish":
				fish, err := c.App.ToFishCompletion()
				if err != nil {
					return fmt.Errorf("completion for fish: %w", err)
				}
				script = fish
			default:
				return usagef("there is no completion for %q; taken is bash, zsh or fish", shell)
			}
			_, err := fmt.Fprintln(p.stdout, strings.TrimSpace(script))
			return err
		},
	}
}

// The program completes by itself when its last word is completionFlag; a
// flag begun stands before it.
const bashScript = `
_tbhist() {
  local cur="${COMP_WORDS[COMP_CWORD]}" line=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ "$cur" == -* ]] && line+=("$cur")
  COMPREPLY=($(compgen -W "$("${line[@]}" ` + completionFlag + ` 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _tbhist tbhist
`

const zshScript = `
#compdef tbhist
_tbhist() {
  local -a line options
  line=("${(@)words[1,CURRENT-1]}")
  [[ "${words[CURRENT]}" == -* ]] && line+=("${words[CURRENT]}")
  options=("${(@f)$("${line[@]}" ` + completionFlag + ` 2>/dev/null)}")
  if [[ -n "${options[1]}" ]]; then compadd -- "${options[@]}"; else _files; fi
}
if [[ "$funcstack[1]" == _tbhist ]]; then _tbhist "$@"; else compdef _tbhist tbhist; fi
`
