package clidocs

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

func TestHelpIsBrokenAtTheWidthOfATerminal(t *testing.T) {
	t.Parallel()
	c := &cli.Command{HelpName: "p go", Usage: "go somewhere", ArgsUsage: "PLACE",
		Description: "A line of the description that is so long that it has to be broken, for it\ngoes on here.\n\nShort\nlines stay.\n\n   p go --with-a-long-flag some-value --with-another-long-flag other-value somewhere",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "`NAME` of it", DefaultText: "none"},
			&cli.DurationFlag{Name: "a-name-that-is-longer-than-a-column", Value: 2 * time.Hour, Usage: "for `DURATION`"},
			&cli.BoolFlag{Name: "yes", Usage: "a switch whose description does not fit behind its name in one line of eighty"},
			&cli.BoolFlag{Name: "on", Value: true, Usage: "on", Category: "Other"},
			&cli.BoolFlag{Name: "hidden", Hidden: true},
		}}
	var out bytes.Buffer
	Help(&out, "", c)
	want := `NAME:
   p go - go somewhere

USAGE:
   p go [options] PLACE

DESCRIPTION:
   A line of the description that is so long that it has to be broken, for it
   goes on here.

   Short
   lines stay.

      p go --with-a-long-flag some-value --with-another-long-flag \
        other-value somewhere

OPTIONS:
   --name NAME, -n  NAME of it (default: none)
   --a-name-that-is-longer-than-a-column DURATION
                    for DURATION (default: 2h)
   --yes            a switch whose description does not fit behind its name in
                    one line of eighty

   Other:
   --on  on (default: true)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > Columns+1 {
			t.Errorf("%q is %d wide", line, len(line)-1)
		}
	}
}
