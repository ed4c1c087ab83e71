package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/buildinfo"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print version, commit, date and Go version",
		Action: func(c *cli.Context) error {
			_, err := fmt.Fprintln(c.App.Writer, buildinfo.Line("ankacluster"))
			return err
		},
	}
}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands and flags in your shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `Examples:
   eval "$(ankacluster completion bash)"
   ankacluster completion zsh > "${fpath[1]}/_ankacluster"
   ankacluster completion fish > ~/.config/fish/completions/ankacluster.fish`,
		Action: func(c *cli.Context) error {
			print, ok := shells[c.Args().First()]
			if !ok {
				return usagef("pass bash, zsh or fish, not %q", c.Args().First())
			}
			print(c.App.Writer, completions(c.App.Commands))
			return nil
		},
	}
}

// shells print what their completion needs.
var shells = map[string]func(io.Writer, []completion){"bash": completeBash, "zsh": completeZsh, "fish": completeFish}

// completion is what can be typed after one command.
type completion struct {
	command, usage string
	words          []string // subcommands, and flags with their dashes
}

func completions(commands []*cli.Command) []completion {
	var list []completion
	for _, c := range commands {
		if c.Hidden {
			continue
		}
		one := completion{command: c.Name, usage: c.Usage, words: flagWords(c.Flags)}
		if c.Name == "completion" {
			one.words = slices.Collect(maps.Keys(shells))
		} else {
			for _, sub := range c.Subcommands {
				one.words = append(append(one.words, sub.Name), flagWords(sub.Flags)...)
			}
		}
		slices.Sort(one.words)
		one.words = slices.Compact(one.words)
		list = append(list, one)
	}
	return list
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

func completeBash(w io.Writer, list []completion) {
	var names []string
	fmt.Fprint(w, "_ankacluster() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words\n  case ${COMP_WORDS[1]} in\n")
	for _, c := range list {
		names = append(names, c.command)
		fmt.Fprintf(w, "    %s) words=%q ;;\n", c.command, strings.Join(c.words, " "))
	}
	fmt.Fprintf(w, "  esac\n  [ \"$COMP_CWORD\" = 1 ] && words=%q\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n", strings.Join(names, " "))
	fmt.Fprint(w, "  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\ncomplete -F _ankacluster ankacluster\n")
}

func completeZsh(w io.Writer, list []completion) {
	fmt.Fprint(w, "#compdef ankacluster\n_ankacluster() {\n  if (( CURRENT == 2 )); then\n    local -a commands=(\n")
	for _, c := range list {
		fmt.Fprintf(w, "      '%s:%s'\n", c.command, strings.ReplaceAll(c.usage, "'", "'\\''"))
	}
	fmt.Fprint(w, "    )\n    _describe command commands\n    return\n  fi\n  case $words[2] in\n")
	for _, c := range list {
		fmt.Fprintf(w, "    %s) compadd -- %s ;;\n", c.command, strings.Join(c.words, " "))
	}
	fmt.Fprint(w, "  esac\n  _files\n}\n_ankacluster \"$@\"\n")
}

func completeFish(w io.Writer, list []completion) {
	for _, c := range list {
		fmt.Fprintf(w, "complete -c ankacluster -n __fish_use_subcommand -a %s -d '%s'\n", c.command, strings.ReplaceAll(c.usage, "'", "\\'"))
		for _, f := range c.words {
			if name, ok := strings.CutPrefix(f, "--"); ok {
				fmt.Fprintf(w, "complete -c ankacluster -n '__fish_seen_subcommand_from %s' -l %s\n", c.command, name)
			} else {
				fmt.Fprintf(w, "complete -c ankacluster -n '__fish_seen_subcommand_from %s' -a %s\n", c.command, f)
			}
		}
	}
}
