package main

import (
	"fmt"
	"testing"

	"github.com/ankacluster/ankacluster/test/pages"
)

// TestCommandsOfThePagesAreUnderstood holds the manual to what tart's documentation has.
func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	t.Parallel()
	pages.Check(t, "../..", "tart", func(words []string) error {
		cmd, ok := commands[words[1]]
		if !ok {
			return fmt.Errorf("tart has no command %q", words[1])
		}
		_, err := parse(cmd.flags, words[2:], words[1] == "exec")
		return err
	})
}
