package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/cliargs"
	"github.com/ankacluster/ankacluster/internal/clidocs/clihelp"
	"github.com/ankacluster/ankacluster/test/pages"
)

func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	pages.Check(t, "../..", program, func(words []string) error {
		app := newApp(func(string) (string, bool) { return "", false }, io.Discard, io.Discard)
		pages.Harmless(app)
		return app.RunContext(t.Context(), cliargs.Order(words, nil, app.Commands))
	})
}

// Not parallel: cli keeps its help flag in a global.
func TestHelpFitsATerminalAndNamesValues(t *testing.T) {
	newOne := func(out *bytes.Buffer) *cli.App {
		return newApp(func(string) (string, bool) { return "", false }, out, out)
	}
	clihelp.Check(t, newOne(new(bytes.Buffer)), clihelp.Run(t, newOne))
}
