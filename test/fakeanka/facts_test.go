package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docsStates are the commits of github.com/veertuinc/anka-docs at which each
// version's help texts were read.
var docsStates = map[string]string{"3.6": "a4f93180", "3.8": "79db60f6", "3.9": "d3d88da8"}

// ANKA_DOCS names a folder with a tree of the vendor's documentation for each
// version, as
//
//	for v in 3.6:a4f93180 3.8:79db60f6 3.9:d3d88da8; do
//	    mkdir -p $ANKA_DOCS/${v%:*}
//	    git -C anka-docs archive ${v#*:} _partials | tar x -C $ANKA_DOCS/${v%:*}
//	done
//
// With ANKA_FACTS=write the files are written anew.
func TestFactsAreThoseOfTheHelpTexts(t *testing.T) {
	docs := os.Getenv("ANKA_DOCS")
	if docs == "" {
		t.Skip("set ANKA_DOCS to read the vendor's help texts again")
	}
	for _, v := range versions {
		got := readHelpTexts(t, filepath.Join(docs, v[0]), v[0])
		path := filepath.Join("facts", v[0]+".txt")
		if os.Getenv("ANKA_FACTS") == "write" {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != got {
			t.Errorf("%s is not what the help texts say (%v)", path, err)
		}
	}
}

var (
	helpOption   = regexp.MustCompile(`^  (-[^ ]+)( <val>)?(\s|$)`)
	helpArgument = regexp.MustCompile(`^usage: [^ ]+(?: \[options\])?(.*)$`)
)

// readHelpTexts writes the facts of a tree of help texts.
func readHelpTexts(t *testing.T, tree, version string) string {
	root := filepath.Join(tree, "_partials", "anka-virtualization-cli", "command-line-reference")
	lines := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "_index.md" {
			return err
		}
		dir, _ := filepath.Rel(root, filepath.Dir(path))
		name := strings.ReplaceAll(dir, "/", " ")
		if name == "." {
			name = "anka"
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var options []string
		arguments := ""
		for line := range strings.Lines(string(data)) {
			line = strings.TrimRight(line, "\n")
			if m := helpArgument.FindStringSubmatch(line); m != nil {
				arguments = strings.TrimSpace(strings.ReplaceAll(m[1], "<command>", ""))
			}
			m := helpOption.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			var names []string
			for n := range strings.SplitSeq(m[1], ",") {
				names = append(names, strings.TrimLeft(n, "-"))
			}
			option := strings.Join(names, ",")
			if m[2] != "" {
				option += "="
			}
			options = append(options, option)
		}
		lines[name] = strings.TrimRight(fmt.Sprintf("%s | %s | %s", name, strings.Join(options, " "), arguments), " ")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# Commands and options of anka %s, read from the help texts in\n# github.com/veertuinc/anka-docs at %s.\n", version, docsStates[version])
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintln(&out, lines[name])
	}
	return out.String()
}

// The fake has no option that the real command of its version has not, except
// in commands that are its own.
func TestOptionsComeFromTheFacts(t *testing.T) {
	nowhere := maps.Clone(commands)
	for _, v := range versions {
		f, err := loadFacts(v[1])
		if err != nil {
			t.Fatal(err)
		}
		for name := range commands {
			if _, known := f[name]; known || ownCommand(name) {
				delete(nowhere, name)
			}
		}
	}
	for name := range nowhere {
		t.Errorf("the fake has the command %q, of which nothing is known", name)
	}
	for _, c := range []struct {
		version, command, option string
		want                     bool
	}{
		{"3.9", "registry", "oci-version", true}, {"3.8", "registry", "oci-version", false}, {"3.6", "registry", "oci-version", false},
		{"3.9", "registry pull", "check-download-size", false}, {"3.9", "pull", "check-download-size", true},
		{"3.6", "modify port", "guest-port", true}, {"3.9", "modify port", "guest-port", false},
		{"3.9", "modify network", "local", true}, {"3.6", "modify network", "local", false},
		{"3.9", "modify cpu", "hvapic", false}, {"3.8", "list", "field", true},
	} {
		f, err := loadFacts(c.version)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(optionNames(f[c.command]), c.option); got != c.want {
			t.Errorf("anka %s %s --%s: got %v, want %v", c.version, c.command, c.option, got, c.want)
		}
	}
}

func optionNames(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' || r == '=' })
}
