package main

import (
	"io"
	"testing"

	"github.com/ankacluster/ankacluster/internal/cliargs"
	"github.com/ankacluster/ankacluster/test/pages"
)

func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	t.Parallel()
	pages.Check(t, "../..", "anka-registry", func(words []string) error {
		app := newApp(io.Discard, io.Discard)
		pages.Harmless(app)
		return app.RunContext(t.Context(), cliargs.Order(words, app.Flags, app.Commands))
	})
}
