package pages

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Command is something on a page that a reader types.
type Command struct {
	Page string // below the root of the checkout, with slashes
	Line int
	Text string // in one line where the page has it in one; without a remark behind it
	// Block is set for what stands on lines of its own, and not in a sentence.
	Block bool
}

func (c Command) String() string { return fmt.Sprintf("%s:%d: %s", c.Page, c.Line, c.Text) }

// beside are pages outside of docs/.
var beside = []string{"README.md", "SECURITY.md", "CONTRIBUTING.md", "deploy/helm/ankacluster/README.md"}

// Files lists the pages below the root of the checkout.
func Files(root string) ([]string, error) {
	files := slices.Clone(beside)
	err := fs.WalkDir(os.DirFS(root), "docs", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && path.Ext(name) == ".md" {
			files = append(files, name)
		}
		return err
	})
	return files, err
}

// All returns the commands of every page.
func All(root string) (all []Command, err error) {
	files, err := Files(root)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		commands, err := Of(root, f)
		if err != nil {
			return nil, err
		}
		all = append(all, commands...)
	}
	return all, nil
}

// Of returns the commands of one page.
func Of(root, page string) ([]Command, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(page)))
	if err != nil {
		return nil, err
	}
	return read(page, string(text)), nil
}

// Blocks are the commands of a page that stand on lines of their own.
func Blocks(root, page string) ([]Command, error) {
	all, err := Of(root, page)
	return slices.DeleteFunc(all, func(c Command) bool { return !c.Block }), err
}

// read finds the commands of a page: its indented lines, those between ```sh and
// ```, and code in a sentence that begins with the name of a program.
func read(page, text string) (found []Command) {
	var prose strings.Builder // the lines that are no commands; the others are empty in it
	var block []Command
	fence, more := "", false
	for i, line := range strings.Split(text, "\n") {
		if mark, ok := strings.CutPrefix(strings.TrimSpace(line), "```"); ok {
			if fence == "" {
				fence = "```" + mark
			} else {
				fence = ""
			}
			more = false
			prose.WriteByte('\n')
			continue
		}
		command, indented := strings.CutPrefix(line, "    ")
		if fence != "" {
			command, indented = line, fence == "```sh"
		}
		if !indented || strings.TrimSpace(command) == "" {
			more = false
			if fence == "" {
				prose.WriteString(line)
			}
			prose.WriteByte('\n')
			continue
		}
		prose.WriteByte('\n')
		if more {
			block[len(block)-1].Text += "\n" + command
		} else {
			block = append(block, Command{Page: page, Line: i + 1, Text: command, Block: true})
		}
		more = unfinished(block[len(block)-1].Text)
	}
	for _, c := range block {
		c.Text = withoutRemark(c.Text)
		found = append(found, c)
	}
	return append(found, inSentences(page, prose.String())...)
}

// unfinished reports whether a command goes on in the next line.
func unfinished(text string) bool {
	return strings.HasSuffix(strings.TrimSpace(text), `\`) || strings.HasPrefix(text, "for ") && !strings.HasSuffix(text, "done")
}

var remark = regexp.MustCompile(`\s+# .*$`)

func withoutRemark(text string) string {
	text = strings.ReplaceAll(text, "\\\n", "")
	if !strings.Contains(text, "\n") {
		text = strings.Join(strings.Fields(text), " ")
	}
	return strings.TrimSpace(remark.ReplaceAllString(text, ""))
}

// programs are what a command in a sentence begins with.
var programs = []string{"ankacluster", "anka-controller", "anka-registry", "anka", "tart", "orchard", "curl", "make", "go", "docker", "helm", "kubectl",
	"apt", "dnf", "brew", "systemctl", "journalctl", "launchctl", "openssl", "minisign", "sha256sum", "rsync", "tar", "git", "benchstat", "promtool",
	"man", "pmset", "fdesetup", "etcdctl", "ssh", "rm", "mv", "cp", "install"}

var (
	code       = regexp.MustCompile("`([^`]+)`")
	assignment = regexp.MustCompile(`^[A-Z][A-Z_]*=\S*$`)
)

func inSentences(page, text string) (found []Command) {
	for _, at := range code.FindAllStringSubmatchIndex(text, -1) {
		words := strings.Fields(text[at[2]:at[3]])
		rest := slices.Clone(words)
		for len(rest) > 0 && (rest[0] == "sudo" || assignment.MatchString(rest[0])) {
			rest = rest[1:]
		}
		if len(rest) < 2 || !slices.Contains(programs, rest[0]) {
			continue
		}
		found = append(found, Command{Page: page, Line: 1 + strings.Count(text[:at[2]], "\n"), Text: strings.Join(words, " ")})
	}
	return found
}

// Words splits a command at blanks as a shell does, up to the end of its first
// part: a pipe, a redirection, what follows it.
func Words(text string) (words []string) {
	var word strings.Builder
	begun := false
	var quote rune
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case strings.ContainsRune("|;&", r) || r == '>' || r == '\n':
			if begun {
				words = append(words, word.String())
			}
			return words
		case r == ' ':
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}
