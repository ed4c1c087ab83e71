// Package clihelp holds the help of a program to its form, in a test.
package clihelp

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/clidocs"
)

// Check asks a program for the help of each of its commands: no line is wider than
// a terminal, and each flag that takes a value says what the value is. run runs the
// program with arguments and returns what it prints.
func Check(t *testing.T, app *cli.App, run func(args ...string) string) {
	t.Helper()
	check(t, nil, app.Flags, app.Commands, run)
}

func check(t *testing.T, path []string, flags []cli.Flag, commands []*cli.Command, run func(args ...string) string) {
	t.Helper()
	for _, f := range flags {
		if doc, ok := f.(cli.DocGenerationFlag); ok && doc.TakesValue() && strings.Count(doc.GetUsage(), "`") != 2 {
			t.Errorf("%v: --%s does not say what its value is: %q", path, f.Names()[0], doc.GetUsage())
		}
	}
	out := run(append(slices.Clone(path), "--help")...)
	for line := range strings.Lines(out) {
		if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > clidocs.Columns || strings.HasSuffix(line, " ") {
			t.Errorf("%v --help: this line is too wide, or ends in blanks:\n%s|", path, line)
		}
	}
	if !strings.HasPrefix(out, "NAME:\n") {
		t.Errorf("%v --help: %s", path, out)
	}
	for _, c := range commands {
		if !c.Hidden && c.Name != "help" {
			check(t, append(slices.Clone(path), c.Name), c.Flags, c.Subcommands, run)
		}
	}
}

// Run is a run for Check, of a program that has made its app.
func Run(t *testing.T, newApp func(out *bytes.Buffer) *cli.App) func(args ...string) string {
	return func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		app := newApp(&out)
		if err := app.RunContext(t.Context(), append([]string{app.Name}, args...)); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return out.String()
	}
}
