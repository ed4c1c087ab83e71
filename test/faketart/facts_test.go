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
	"unicode"
)

// TART_SOURCES names a folder with a tree of tart's sources for each version, as
//
//	for v in 2.27.2 2.27.3 2.28.2 2.32.1 2.33.1 2.35.0; do
//	    mkdir -p $TART_SOURCES/$v
//	    git -C tart archive $v Sources/tart/Commands | tar x -C $TART_SOURCES/$v
//	done
//
// of github.com/openai/tart. With TART_FACTS=write the files are written anew.
func TestFactsAreThoseOfTheSources(t *testing.T) {
	sources := os.Getenv("TART_SOURCES")
	if sources == "" {
		t.Skip("set TART_SOURCES to read tart's sources again")
	}
	for _, v := range versions {
		got := readSources(t, filepath.Join(sources, v), v)
		path := filepath.Join("facts", v+".txt")
		if os.Getenv("TART_FACTS") == "write" {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != got {
			t.Errorf("%s is not what the sources say (%v)", path, err)
		}
	}
}

var (
	swiftStruct   = regexp.MustCompile(`(?m)^struct (\w+): \w*ParsableCommand`)
	swiftName     = regexp.MustCompile(`commandName: "([^"]+)"`)
	swiftProperty = regexp.MustCompile(`(?ms)^ *@(Option|Flag|Argument)\b(.*?)^ *(?:#endif\s+)?var (\w+) *: *(\[?)`)
	swiftOneLine  = regexp.MustCompile(`(?m)^ *@(Option|Flag|Argument)(\(.*\))? var `)
	swiftLong     = regexp.MustCompile(`\.customLong\("([^"]+)"`)
	swiftShort    = regexp.MustCompile(`\.customShort\("([^"]+)"`)
	swiftNames    = regexp.MustCompile(`(?s)^\(\s*name: (\[[^\]]*\]|\.[a-zA-Z]+(?:\("[^"]*"\))?)`)
)

// readSources writes the facts of a tree of sources.
func readSources(t *testing.T, tree, version string) string {
	files, err := filepath.Glob(filepath.Join(tree, "Sources", "tart", "Commands", "*.swift"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources in %s: %v", tree, err)
	}
	lines := make(map[string]string)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source := string(data)
		m := swiftStruct.FindStringSubmatch(source)
		if m == nil {
			continue
		}
		name := dashed(m[1])
		if n := swiftName.FindStringSubmatch(source); n != nil {
			name = n[1]
		}
		if swiftOneLine.MatchString(source) {
			t.Fatalf("%s: a property on one line, which this test does not read", file)
		}
		var options, arguments []string
		for _, p := range swiftProperty.FindAllStringSubmatch(source, -1) {
			switch kind, about, property, list := p[1], p[2], p[3], p[4] != ""; {
			case kind == "Argument" && list:
				arguments = append(arguments, property+"...")
			case kind == "Argument":
				arguments = append(arguments, property)
			default:
				names := optionNamesOf(about, property)
				if kind == "Option" {
					names += "="
				} else if strings.Contains(about, ".prefixedNo") {
					names += " no-" + names
				}
				options = append(options, names)
			}
		}
		lines[name] = strings.TrimRight(fmt.Sprintf("%s | %s | %s", name, strings.Join(options, " "), strings.Join(arguments, " ")), " ")
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# Commands and options of tart %s, read from its sources in\n# github.com/openai/tart at that tag.\n", version)
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintln(&out, lines[name])
	}
	return out.String()
}

// optionNamesOf returns the names of an option, short ones first.
func optionNamesOf(about, property string) string {
	given := swiftNames.FindStringSubmatch(about)
	if given == nil {
		return dashed(property)
	}
	var names []string
	for _, m := range swiftShort.FindAllStringSubmatch(given[1], -1) {
		names = append(names, m[1])
	}
	if strings.Contains(given[1], ".short") {
		names = append(names, property[:1])
	}
	for _, m := range swiftLong.FindAllStringSubmatch(given[1], -1) {
		names = append(names, m[1])
	}
	if regexp.MustCompile(`\.long\b|AndLong`).MatchString(given[1]) {
		names = append(names, dashed(property))
	}
	return strings.Join(names, ",")
}

// dashed writes a name such as randomMAC as its option is: random-mac.
func dashed(name string) string {
	runes := []rune(name)
	var out strings.Builder
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			out.WriteByte('-')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

// The fake has no option that the real command of its version has not.
func TestOptionsComeFromTheFacts(t *testing.T) {
	for _, v := range versions {
		f, err := loadFacts(v)
		if err != nil {
			t.Fatal(err)
		}
		for name := range commands {
			if _, known := f[name]; !known {
				t.Errorf("tart %s has no command %q, and the fake has", v, name)
			}
		}
	}
	for _, c := range []struct {
		version, command, option string
		want                     bool
	}{
		{"2.27.2", "set", "random-mac", true}, {"2.27.2", "create", "disk-format", false}, {"2.28.2", "create", "disk-format", true},
		{"2.28.2", "clone", "prune-limit", false}, {"2.32.1", "clone", "prune-limit", true}, {"2.35.0", "exec", "i", true}, {"2.35.0", "push", "label", true},
		{"2.35.0", "stop", "timeout", true}, {"2.35.0", "run", "no-graphics", true}, {"2.35.0", "pull", "insecure", true}, {"2.40.0", "list", "format", true},
	} {
		f, err := loadFacts(c.version)
		if err != nil {
			t.Fatal(err)
		}
		names := strings.FieldsFunc(f[c.command], func(r rune) bool { return r == ' ' || r == ',' || r == '=' })
		if got := slices.Contains(names, c.option); got != c.want {
			t.Errorf("tart %s %s --%s: got %v, want %v", c.version, c.command, c.option, got, c.want)
		}
	}
}
