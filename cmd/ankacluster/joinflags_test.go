package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// Every flag of join is given a value that is wrong in one of the scripts, and
// refused there.
func TestEveryJoinFlagIsRefusedInAScript(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/join_*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	refused := make(map[string]bool)
	line := regexp.MustCompile(`(?m)^exits [12] ankacluster join .*$`)
	flag := regexp.MustCompile(` --([a-z-]+)`)
	for _, path := range scripts {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range line.FindAllString(string(data), -1) {
			for _, m := range flag.FindAllStringSubmatch(l, -1) {
				refused[m[1]] = true
			}
		}
	}
	for _, f := range joinFlags() {
		names := f.Names()
		// The hypervisors' commands are looked for under their variables' names.
		if names[0] == "anka-path" || names[0] == "tart-path" {
			continue
		}
		if !slices.ContainsFunc(names, func(n string) bool { return refused[n] }) {
			t.Errorf("no script gives --%s a wrong value", names[0])
		}
	}
}
