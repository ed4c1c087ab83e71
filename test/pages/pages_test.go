package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// TestEveryCommandHasItsPlace fails on a command of a page that no test types, and
// for which nobody has said why not; and on a word about a command that no page has.
func TestEveryCommandHasItsPlace(t *testing.T) {
	t.Parallel()
	all, err := All(root)
	if err != nil {
		t.Fatal(err)
	}
	places := make(map[string][]string) // of each command that is spoken of
	for _, s := range Stories {
		for _, step := range s.Steps {
			for _, c := range append(step.Also, step.Command) {
				places[c] = append(places[c], "story "+s.Name)
			}
		}
	}
	for c := range Elsewhere {
		places[c] = append(places[c], "Elsewhere")
	}
	for c := range NotHere {
		places[c] = append(places[c], "NotHere")
	}
	onPages := make(map[string]bool)
	for _, c := range all {
		onPages[c.Text] = true
		words := Words(c.Text)
		switch {
		case c.Block && Whole[c.Page] != "" && words[0] != "make":
		case len(places[c.Text]) > 0:
		case slices.Contains(words, "make") || slices.Contains(words, "go"):
			// TestMakeAndGoOfThePages
		default:
			t.Errorf("%s\n\tno test types it: put it into a story, or say in Elsewhere or NotHere what becomes of it", c)
		}
	}
	for _, s := range Stories {
		for _, step := range s.Steps {
			for _, c := range append(step.Also, step.Command) {
				if !onPages[c] && (!step.Unwritten || c != step.Command) {
					t.Errorf("story %s types %q, which no page has", s.Name, c)
				}
			}
		}
	}
	for c := range Elsewhere {
		if !onPages[c] {
			t.Errorf("Elsewhere has %q, which no page has", c)
		}
	}
	for c, why := range NotHere {
		if !onPages[c] || len(places[c]) > 1 || why == "" {
			t.Errorf("NotHere has %q: on a page %v, a reason %q, also %v", c, onPages[c], why, places[c])
		}
	}
}

// TestTestsOfThePagesExist holds the tables to tests that there are.
func TestTestsOfThePagesExist(t *testing.T) {
	t.Parallel()
	there := testFunctions(t, "./...")
	for c, test := range Elsewhere {
		if !there[test] {
			t.Errorf("%q: there is no %s", c, test)
		}
	}
	for page, test := range Whole {
		if !there[test] {
			t.Errorf("%s: there is no %s", page, test)
		}
	}
}

// TestMakeAndGoOfThePages finds the target of each `make` and the package and tests
// of each `go` command.
func TestMakeAndGoOfThePages(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := All(root)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, c := range all {
		words := Words(c.Text)
		for len(words) > 0 && assignment.MatchString(words[0]) {
			words = words[1:]
		}
		switch strings.Join(words[:min(1, len(words))], "") {
		case "make":
			err = checkMake(t, string(makefile), words[1:])
		case "go":
			err = checkGo(t, words[1:])
		default:
			continue
		}
		checked++
		if err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	if checked < 50 {
		t.Errorf("%d commands of make and go were found", checked)
	}
}

func checkMake(t *testing.T, makefile string, words []string) error {
	for _, w := range words {
		name, value, isVariable := strings.Cut(w, "=")
		if !isVariable {
			if !strings.Contains(makefile, "\n"+w+":") {
				return fmt.Errorf("there is no target %s", w)
			}
			continue
		}
		if !strings.Contains(makefile, "$("+name+")") && !strings.Contains(makefile, "$("+name+",") && !strings.Contains(makefile, "$(if $("+name) {
			return fmt.Errorf("no target takes %s", name)
		}
		if strings.HasPrefix(value, "Test") && !matchesATest(t, "./...", value) {
			return fmt.Errorf("there is no test %s", value)
		}
	}
	return nil
}

func checkGo(t *testing.T, words []string) error {
	var run string
	var packages []string
	for i, w := range words {
		if before := words[max(i-1, 0)]; before == "-run" || before == "-bench" {
			if w != "^$" {
				run = w
			}
			continue
		}
		if strings.HasPrefix(w, "./") {
			packages = append(packages, w)
		}
	}
	for _, p := range packages {
		dir := filepath.Join(root, filepath.FromSlash(strings.TrimSuffix(p, "...")))
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("there is no package %s", p)
		}
	}
	for i := 0; run != "" && i < len(packages); i++ {
		if matchesATest(t, packages[i], run) {
			return nil
		}
	}
	if run != "" {
		return fmt.Errorf("%v have no test that %s matches", packages, run)
	}
	return nil
}

func matchesATest(t *testing.T, packages, pattern string) bool {
	pattern, _, _ = strings.Cut(pattern, "/")
	re := regexp.MustCompile(pattern)
	for name := range testFunctions(t, packages) {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}

var testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)

// testFunctions are the tests, benchmarks and fuzz targets below packages, which is
// a folder, with ... behind it for those below.
func testFunctions(t *testing.T, packages string) map[string]bool {
	t.Helper()
	dir, all := strings.CutSuffix(packages, "...")
	found := make(map[string]bool)
	start := filepath.Join(root, filepath.FromSlash(dir))
	err := filepath.WalkDir(start, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if err == nil && !all && path != start {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(path)
		for _, m := range testFunction.FindAllSubmatch(data, -1) {
			found[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestReadingAPage is about the reader: what is a command, and what is not.
func TestReadingAPage(t *testing.T) {
	t.Parallel()
	page := "# A\n\nSay `sudo ankacluster doctor` or `sudo ankacluster\nendpoints --why`; `--flag`, `anka`.\n\n" +
		"    one --two \\\n      three   # a remark\n    four '#5'\n\n    for x in a b; do\n      six $x\n    done\n\n" +
		"```\na picture `make no`\n```\n\n```sh\nseven --eight # nine\n```\n\n| `ANKA_X=1 go test ./x` | |\n"
	var got []string
	for _, c := range read("p", page) {
		got = append(got, fmt.Sprintf("%d %v %s", c.Line, c.Block, c.Text))
	}
	want := []string{"6 true one --two three", "8 true four '#5'", "10 true for x in a b; do\n  six $x\ndone", "19 true seven --eight",
		"3 false sudo ankacluster doctor", "3 false sudo ankacluster endpoints --why", "22 false ANKA_X=1 go test ./x"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := Words(`curl -d '{"a b":"c"}' "x y" 2>/dev/null | less`); !slices.Equal(got, []string{"curl", "-d", `{"a b":"c"}`, "x y", "2"}) {
		t.Errorf("words: %q", got)
	}
}
