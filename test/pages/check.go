package pages

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// Check parses all commands of the pages that call a program, with the program
// itself: commands and flags must exist, and what takes a value must have one.
// parse is given the words, the program's name first.
func Check(t *testing.T, root, program string, parse func(words []string) error) {
	t.Helper()
	all, err := All(root)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, c := range all {
		words := Words(c.Text)
		for len(words) > 0 && (words[0] == "sudo" || assignment.MatchString(words[0])) {
			words = words[1:]
		}
		if len(words) == 0 || words[0] != program {
			continue
		}
		checked++
		if err := parse(words); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	if checked == 0 {
		t.Errorf("no page has a command of %s", program)
	}
}

// Harmless makes all commands of a program do nothing but find mistakes in how
// they are called.
func Harmless(app *cli.App) {
	app.Action = refuseArguments(app.Name)
	app.Before, app.After = nil, nil
	harmless(app.Name, app.Commands)
}

func harmless(path string, commands []*cli.Command) {
	for _, c := range commands {
		c.Before, c.After, c.Action = nil, nil, func(*cli.Context) error { return nil }
		if len(c.Subcommands) > 0 {
			c.Action = refuseArguments(path + " " + c.Name)
		}
		harmless(path+" "+c.Name, c.Subcommands)
	}
}

// refuseArguments is the action of what has commands: an argument is one that does
// not exist.
func refuseArguments(path string) cli.ActionFunc {
	return func(cc *cli.Context) error {
		if words := cc.Args().Slice(); len(words) > 0 && !slices.Contains([]string{"…", "..."}, words[0]) {
			return fmt.Errorf("%s has no command %q", path, strings.Join(words, " "))
		}
		return nil
	}
}
