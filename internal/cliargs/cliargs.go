// Package cliargs lets people write flags where they think of them: `join URL
// --flag`, `stats --base-path DIR`. The flag package stops at the first argument
// and knows a program's own flags only before the command.
package cliargs

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Order moves a command's flags before its arguments, and the program's own before
// the command. Of a flag that both have, the command's is meant.
func Order(args []string, own []cli.Flag, commands []*cli.Command) []string {
	if len(args) == 0 {
		return args
	}
	takes := values(own)
	i := 1
	for i < len(args) && isFlag(args[i]) && args[i] != "--" {
		if takes[bare(args[i])] {
			i++
		}
		i++
	}
	if i >= len(args) {
		return args
	}
	for _, c := range commands {
		if !c.HasName(args[i]) || c.SkipFlagParsing {
			continue
		}
		front, command := args[:i], args[i:]
		if len(c.Subcommands) > 0 {
			return slices.Concat(front, Order(command, c.Flags, c.Subcommands))
		}
		theirs, ours, rest := split(command[1:], values(c.Flags), takes)
		return slices.Concat(front, ours, command[:1], theirs, rest)
	}
	return args
}

// split sorts what stands behind a command into its flags, those of the program
// alone, and arguments.
func split(tail []string, theirs, ours map[string]bool) (flags, above, rest []string) {
	for ; len(tail) > 0; tail = tail[1:] {
		arg := tail[0]
		if arg == "--" {
			return append(flags, "--"), above, append(rest, tail[1:]...)
		}
		if !isFlag(arg) {
			rest = append(rest, arg)
			continue
		}
		to, value := &flags, theirs[bare(arg)]
		if _, known := theirs[name(arg)]; !known {
			if _, known := ours[name(arg)]; known {
				to, value = &above, ours[bare(arg)]
			}
		}
		*to = append(*to, arg)
		if value && len(tail) > 1 {
			*to = append(*to, tail[1])
			tail = tail[1:]
		}
	}
	return flags, above, rest
}

// values holds for each name of a flag whether a value follows it.
func values(flags []cli.Flag) map[string]bool {
	takes := make(map[string]bool)
	for _, f := range flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, n := range f.Names() {
			takes[n] = !isBool
		}
	}
	return takes
}

func isFlag(arg string) bool { return strings.HasPrefix(arg, "-") && arg != "-" }

// bare is a flag without dashes; with a value behind = it is no flag's name.
func bare(arg string) string { return strings.TrimLeft(arg, "-") }

// name is a flag's name, also of one that has its value behind =.
func name(arg string) string {
	n, _, _ := strings.Cut(bare(arg), "=")
	return n
}
