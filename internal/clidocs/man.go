// Package clidocs writes what a shell and a reader want of a command line from
// its own table of commands: completions, and a manual page.
//
//	app.Commands = append(app.Commands,
//		clidocs.CompletionCommand(app.Name, usage),
//		clidocs.ManCommand(page))
//
// Both are made from the cli.App alone, so that they never tell of a flag that
// does not exist.
package clidocs

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// Page is what a manual page has beside the commands and flags.
type Page struct {
	// Section is 1 for a command and 8 for a server.
	Section int
	// Version and Date stand at the foot.
	Version, Date string
	// Files are paths and what they are.
	Files [][2]string
	// SeeAlso are other pages, such as "anka-registry(8)".
	SeeAlso []string
}

// ManCommand returns the hidden command `man`, which prints the page in the
// format of man(7).
func ManCommand(page Page) *cli.Command {
	return &cli.Command{
		Name: "man", Usage: "print the manual page", Hidden: true, HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			_, err := io.WriteString(c.App.Writer, Man(c.App, page))
			return err
		},
	}
}

// Man returns the manual page of app.
func Man(app *cli.App, page Page) string {
	m := &manual{app: app}
	m.line(".TH %s %d %s %s %s", quoted(strings.ToUpper(app.Name)), page.Section, quoted(page.Date), quoted(app.Name+" "+page.Version), quoted("ankacluster"))
	m.line(".SH NAME")
	m.line(`%s \- %s`, escaped(app.Name), escaped(app.Usage))
	m.line(".SH SYNOPSIS")
	m.synopsis(app)
	if app.Description != "" {
		m.line(".SH DESCRIPTION")
		m.prose(app.Description)
	}
	if visible(app.Flags) {
		m.line(".SH OPTIONS")
		m.flags(app.Flags, nil)
	}
	if cmds := visibleCommands(app.Commands); len(cmds) > 0 {
		m.line(".SH COMMANDS")
		for _, c := range cmds {
			m.command(app.Name, c)
		}
	}
	if len(page.Files) > 0 {
		m.line(".SH FILES")
		for _, f := range page.Files {
			m.line(".TP")
			m.line(".I %s", escaped(f[0]))
			m.line("%s", escaped(f[1]))
		}
	}
	m.line(".SH EXIT STATUS")
	m.line("0 done, 1 failed, 2 used wrongly.")
	if len(page.SeeAlso) > 0 {
		m.line(".SH SEE ALSO")
		m.line("%s", escaped(strings.Join(page.SeeAlso, ", ")))
	}
	return m.String()
}

// manual is a page in the making.
type manual struct {
	strings.Builder
	app *cli.App
}

func (m *manual) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

func (m *manual) synopsis(app *cli.App) {
	text := app.UsageText
	if text == "" {
		text = app.Name + " [options]"
		if len(visibleCommands(app.Commands)) > 0 {
			text += " [command [options] [arguments]]"
		}
	}
	m.literal(strings.Split(text, "\n"))
}

// command writes one command and those below it.
func (m *manual) command(path string, c *cli.Command) {
	path += " " + c.Name
	m.line(".SS %s", quoted(strings.TrimSpace(path+" "+c.ArgsUsage)))
	m.line("%s.", escaped(strings.ToUpper(c.Usage[:1])+c.Usage[1:]))
	if c.Description != "" {
		m.line(".PP")
		m.prose(c.Description)
	}
	m.flags(c.Flags, m.app.Flags)
	for _, sub := range visibleCommands(c.Subcommands) {
		m.command(path, sub)
	}
}

// flags writes a list of flags. A command that takes most of what the program
// itself takes refers to that.
func (m *manual) flags(flags, known []cli.Flag) {
	names := make(map[string]bool)
	for _, f := range known {
		names[f.Names()[0]] = true
	}
	shared := 0
	for _, f := range flags {
		if names[f.Names()[0]] {
			shared++
		}
	}
	const many = 5
	if shared > many {
		m.line(".PP")
		m.line("It takes every option of %s itself, and:", escaped(m.app.Name))
	}
	category := ""
	for _, f := range inCategories(flags) {
		if shared > many && names[f.Names()[0]] {
			continue
		}
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		if c, ok := f.(cli.CategorizableFlag); ok && shared <= many && c.GetCategory() != category {
			category = c.GetCategory()
			m.line(".PP")
			m.line(".B %s", escaped(category))
		}
		m.flag(f, doc)
	}
}

func (m *manual) flag(f cli.Flag, doc cli.DocGenerationFlag) {
	usage, placeholder := unquoted(doc.GetUsage())
	var names []string
	for _, n := range f.Names() {
		dashes := `\-\-`
		if len(n) == 1 {
			dashes = `\-`
		}
		name := `\fB` + dashes + escaped(n) + `\fR`
		if doc.TakesValue() {
			name += ` \fI` + escaped(cmp.Or(placeholder, "VALUE")) + `\fR`
		}
		names = append(names, name)
	}
	if def := doc.GetDefaultText(); doc.TakesValue() && def != "" {
		usage += " (default: " + def + ")"
	}
	if env := doc.GetEnvVars(); len(env) > 0 {
		usage += " [$" + strings.Join(env, ", $") + "]"
	}
	m.line(".TP")
	m.line("%s", strings.Join(names, ", "))
	m.line("%s", escaped(strings.ReplaceAll(usage, "\n", " ")))
}

// prose writes paragraphs. Lines that begin with a blank are examples, and stay
// as they are.
func (m *manual) prose(text string) {
	var example []string
	end := func() {
		if len(example) > 0 {
			m.line(".PP")
			m.literal(example)
			m.line(".PP")
		}
		example = nil
	}
	for _, l := range strings.Split(strings.Trim(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(l, " "):
			example = append(example, strings.TrimSpace(l))
		case strings.TrimSpace(l) == "":
			end()
			m.line(".PP")
		default:
			end()
			m.line("%s", escaped(l))
		}
	}
	end()
}

func (m *manual) literal(lines []string) {
	m.line(".RS 4")
	m.line(".nf")
	for _, l := range lines {
		m.line("%s", escaped(l))
	}
	m.line(".fi")
	m.line(".RE")
}

// escaped returns text in which nothing is a request or an escape of roff, and
// in which a dash can be copied as one.
func escaped(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

func quoted(s string) string { return `"` + strings.ReplaceAll(escaped(s), `"`, `\(dq`) + `"` }

// unquoted returns the usage without the marks around its placeholder, and that.
func unquoted(usage string) (text, placeholder string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return usage, ""
	}
	placeholder, after, ok := strings.Cut(rest, "`")
	if !ok {
		return usage, ""
	}
	return before + placeholder + after, placeholder
}

// inCategories returns the visible flags, those of one category together.
func inCategories(flags []cli.Flag) (sorted []cli.Flag) {
	var categories []string
	in := make(map[string][]cli.Flag)
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		category := ""
		if c, ok := f.(cli.CategorizableFlag); ok {
			category = c.GetCategory()
		}
		if _, known := in[category]; !known {
			categories = append(categories, category)
		}
		in[category] = append(in[category], f)
	}
	for _, c := range categories {
		sorted = append(sorted, in[c]...)
	}
	return sorted
}

func visible(flags []cli.Flag) bool { return len(inCategories(flags)) > 0 }

func visibleCommands(commands []*cli.Command) (out []*cli.Command) {
	for _, c := range commands {
		if !c.Hidden && c.Name != "help" {
			out = append(out, c)
		}
	}
	return out
}
