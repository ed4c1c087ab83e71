package main

import (
	"fmt"
	"testing"

	"github.com/ankacluster/ankacluster/test/pages"
)

// TestCommandsOfThePagesAreUnderstood holds the manual to what tart's documentation has.
func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	t.Parallel()
	known, err := loadFacts(versionNumber())
	if err != nil {
		t.Fatal(err)
	}
	pages.Check(t, "../..", "tart", func(words []string) error {
		options, ok := known[words[1]]
		if !ok {
			return fmt.Errorf("tart has no command %q", words[1])
		}
		_, err := parse(options, words[2:], words[1] == "exec")
		return err
	})
}
