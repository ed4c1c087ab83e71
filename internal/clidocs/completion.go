package clidocs

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// CompletionCommand returns the command `completion`, which prints a script for
// one shell. It returns usage(err) when it is called with the name of no shell.
func CompletionCommand(program string, usage func(error) error) *cli.Command {
	return &cli.Command{
		Name:            "completion",
		Usage:           "print a script that completes commands and flags in your shell",
		ArgsUsage:       "bash|zsh|fish",
		HideHelpCommand: true,
		Description: fmt.Sprintf(`Packages install these scripts. By hand:

   eval "$(%[1]s completion bash)"
   %[1]s completion zsh > "${fpath[1]}/_%[1]s"
   %[1]s completion fish > ~/.config/fish/completions/%[1]s.fish`, program),
		Action: func(c *cli.Context) error {
			print, ok := shells[c.Args().First()]
			if !ok {
				return usage(fmt.Errorf("pass bash, zsh or fish, not %q", c.Args().First()))
			}
			print(c.App.Writer, newCompletion(c.App))
			return nil
		},
	}
}

// shells print what their completion needs.
var shells = map[string]func(io.Writer, completion){"bash": completeBash, "zsh": completeZsh, "fish": completeFish}

// completion is what can be typed after a program's name.
type completion struct {
	program, function string
	words             []string // global flags with their dashes
	commands          []commandCompletion
}

// commandCompletion is what can be typed after one command.
type commandCompletion struct {
	name, usage string
	words       []string // subcommands, and flags with their dashes
}

func newCompletion(app *cli.App) completion {
	all := completion{program: app.Name, function: "_" + strings.ReplaceAll(app.Name, "-", "_"), words: flagWords(app.Flags)}
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		one := commandCompletion{name: c.Name, usage: c.Usage, words: flagWords(c.Flags)}
		if c.Name == "completion" {
			one.words = slices.Collect(maps.Keys(shells))
		}
		for _, sub := range c.Subcommands {
			one.words = append(append(one.words, sub.Name), flagWords(sub.Flags)...)
		}
		slices.Sort(one.words)
		one.words = slices.Compact(one.words)
		all.commands = append(all.commands, one)
	}
	return all
}

// flagWords are the visible flags that have a long name.
func flagWords(flags []cli.Flag) (words []string) {
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		for _, name := range f.Names() {
			if len(name) > 1 {
				words = append(words, "--"+name)
			}
		}
	}
	return words
}

func (c completion) names() []string {
	var names []string
	for _, one := range c.commands {
		names = append(names, one.name)
	}
	return names
}

// completeBash works in the bash 3.2 of a Mac too. Options may stand before the
// command, so the command is the first word that is one.
func completeBash(w io.Writer, c completion) {
	fmt.Fprintf(w, "%s() {\n  local cur=${COMP_WORDS[COMP_CWORD]} word words=%q\n", c.function, strings.Join(append(c.names(), c.words...), " "))
	fmt.Fprint(w, "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case $word in\n")
	for _, one := range c.commands {
		fmt.Fprintf(w, "      %s) words=%q; break ;;\n", one.name, strings.Join(one.words, " "))
	}
	fmt.Fprint(w, "    esac\n  done\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n")
	fmt.Fprintf(w, "  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\ncomplete -F %s %s\n", c.function, c.program)
}

func completeZsh(w io.Writer, c completion) {
	fmt.Fprintf(w, "#compdef %s\n%s() {\n  local word\n  for word in ${words[2,CURRENT-1]}; do\n    case $word in\n", c.program, c.function)
	for _, one := range c.commands {
		fmt.Fprintf(w, "      %s) compadd -- %s; _files; return ;;\n", one.name, strings.Join(one.words, " "))
	}
	fmt.Fprint(w, "    esac\n  done\n  local -a commands=(\n")
	for _, one := range c.commands {
		fmt.Fprintf(w, "    '%s:%s'\n", one.name, strings.ReplaceAll(one.usage, "'", "'\\''"))
	}
	fmt.Fprint(w, "  )\n  _describe command commands\n")
	if len(c.words) > 0 {
		fmt.Fprintf(w, "  compadd -- %s\n", strings.Join(c.words, " "))
	}
	fmt.Fprintf(w, "}\nif [ \"$funcstack[1]\" = _%s ]; then %s \"$@\"; else compdef %[2]s %[1]s; fi\n", c.program, c.function)
}

func completeFish(w io.Writer, c completion) {
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'" }
	names := strings.Join(c.names(), " ")
	noCommand := quote("not __fish_seen_subcommand_from " + names)
	for _, word := range c.words {
		fmt.Fprintf(w, "complete -c %s -n %s -l %s\n", c.program, noCommand, strings.TrimPrefix(word, "--"))
	}
	for _, one := range c.commands {
		fmt.Fprintf(w, "complete -c %s -n %s -a %s -d %s\n", c.program, noCommand, one.name, quote(one.usage))
		after := quote("__fish_seen_subcommand_from " + one.name)
		for _, word := range one.words {
			if name, ok := strings.CutPrefix(word, "--"); ok {
				fmt.Fprintf(w, "complete -c %s -n %s -l %s\n", c.program, after, name)
			} else {
				fmt.Fprintf(w, "complete -c %s -n %s -a %s\n", c.program, after, word)
			}
		}
	}
}
