package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves a command's flags before its arguments. The documented form
// is `join URL --flag …`, and the flag package stops at the first argument.
func flagsFirst(args []string, commands []*cli.Command) []string {
	if len(args) < 2 {
		return args
	}
	for _, c := range commands {
		if !c.HasName(args[1]) || c.SkipFlagParsing {
			continue
		}
		if len(c.Subcommands) > 0 {
			return concat(args[:1], flagsFirst(args[1:], c.Subcommands))
		}
		takesValue := make(map[string]bool)
		for _, f := range c.Flags {
			_, isBool := f.(*cli.BoolFlag)
			for _, name := range f.Names() {
				takesValue[name] = !isBool
			}
		}
		var flags, rest []string
		for tail := args[2:]; len(tail) > 0; tail = tail[1:] {
			arg := tail[0]
			switch {
			case arg == "--":
				return concat(args[:2], flags, []string{"--"}, rest, tail[1:])
			case !strings.HasPrefix(arg, "-") || arg == "-":
				rest = append(rest, arg)
			default:
				flags = append(flags, arg)
				if name := strings.TrimLeft(arg, "-"); takesValue[name] && len(tail) > 1 {
					flags = append(flags, tail[1])
					tail = tail[1:]
				}
			}
		}
		return concat(args[:2], flags, rest)
	}
	return args
}

func concat(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
