package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/test/pages"
)

// TestCommandsOfThePagesAreUnderstood holds the manual to the help texts of the newest anka.
func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	t.Parallel()
	known, err := loadFacts(versionNumber())
	if err != nil {
		t.Fatal(err)
	}
	pages.Check(t, "../..", "anka", func(words []string) error {
		if words[1] == "…" || strings.HasPrefix(words[1], "-") { // any command, or its options as the page speaks of them
			return nil
		}
		// Options of "registry" stand between it and its own command.
		name, options := words[1], known[words[1]]
		if _, ok := known[name]; !ok {
			return fmt.Errorf("anka has no command %q", name)
		}
		for _, w := range words[2:] {
			if more, ok := known[name+" "+w]; ok {
				name, options = name+" "+w, options+" "+more
			}
		}
		_, err := parse(options, words[2:], false)
		return err
	})
}
