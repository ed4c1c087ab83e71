package clidocs

import (
	"cmp"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// Columns is the width of the help: that of a terminal that nobody has widened.
const Columns = 80

// Help prints the help of a program or of a command, for cli.HelpPrinter: a text
// that is not wider than Columns, with the flags in the order of their table.
//
//	func init() { cli.HelpPrinter = clidocs.Help }
func Help(w io.Writer, _ string, data any) {
	h := &help{}
	switch d := data.(type) {
	case *cli.App:
		h.head(cmp.Or(d.HelpName, d.Name)+" - "+d.Usage, appUsage(d), d.Description)
		h.commands(d.Commands)
		h.flags(d.Flags)
	case *cli.Command:
		h.head(d.HelpName+" - "+d.Usage, commandUsage(d), d.Description)
		h.commands(d.Subcommands)
		h.flags(d.Flags)
	}
	_, _ = io.WriteString(w, h.String()) // a terminal that went away
}

func appUsage(a *cli.App) string {
	if a.UsageText != "" {
		return a.UsageText
	}
	if len(visibleCommands(a.Commands)) == 0 {
		return a.Name + " [options]"
	}
	return a.Name + " [options] [command [options]]"
}

func commandUsage(c *cli.Command) string {
	switch {
	case c.UsageText != "":
		return c.UsageText
	case len(visibleCommands(c.Subcommands)) > 0:
		return c.HelpName + " COMMAND [options]"
	}
	return strings.TrimSpace(c.HelpName + " [options] " + c.ArgsUsage)
}

// help is a text in the making.
type help struct{ strings.Builder }

func (h *help) head(name, usage, description string) {
	h.WriteString("NAME:\n" + wrapped(name, 3, 3))
	h.WriteString("\nUSAGE:\n" + indented(usage))
	if description != "" {
		h.WriteString("\nDESCRIPTION:\n" + indented(description))
	}
}

func (h *help) commands(commands []*cli.Command) {
	var rows [][2]string
	for _, c := range visibleCommands(commands) {
		rows = append(rows, [2]string{c.Name, c.Usage})
	}
	if len(rows) > 0 {
		h.WriteString("\nCOMMANDS:\n")
		h.table(rows)
	}
}

func (h *help) flags(flags []cli.Flag) {
	var rows [][2]string
	category, begun, first := "", false, true
	end := func() {
		if len(rows) == 0 {
			return
		}
		if !begun {
			h.WriteString("\nOPTIONS:\n")
			begun = true
		}
		if category != "" {
			if !first {
				h.WriteByte('\n')
			}
			h.WriteString(wrapped(category+":", 3, 3))
		}
		first = false
		h.table(rows)
		rows = nil
	}
	for _, f := range inCategories(flags) {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		in := ""
		if c, ok := f.(cli.CategorizableFlag); ok {
			in = c.GetCategory()
		}
		if in != category {
			end()
			category = in
		}
		rows = append(rows, flagRow(f, doc))
	}
	end()
}

// flagRow is a flag with its other names and its value, and what it does.
func flagRow(f cli.Flag, doc cli.DocGenerationFlag) [2]string {
	usage, placeholder := unquoted(doc.GetUsage())
	var left strings.Builder
	for i, n := range f.Names() {
		if i > 0 {
			left.WriteString(", ")
		}
		left.WriteString(strings.Repeat("-", min(2, len(n))) + n)
		if i == 0 && doc.TakesValue() {
			left.WriteString(" " + cmp.Or(placeholder, "VALUE"))
		}
	}
	if def := shortened(doc.GetDefaultText()); def != "" && def != "false" {
		usage += " (default: " + def + ")"
	}
	if env := doc.GetEnvVars(); len(env) > 0 {
		usage += " [$" + strings.Join(env, ", $") + "]"
	}
	return [2]string{left.String(), usage}
}

// shortened is a default without the zeros that a duration has: 2h0m0s.
func shortened(def string) string {
	if strings.HasSuffix(def, "m0s") {
		def = strings.TrimSuffix(def, "0s")
	}
	if strings.HasSuffix(def, "h0m") {
		def = strings.TrimSuffix(def, "0m")
	}
	return def
}

// wide is how much of a line the names may take before what they mean begins in
// the next line.
const wide = 28

func (h *help) table(rows [][2]string) {
	column := 0
	for _, r := range rows {
		if n := utf8.RuneCountInString(r[0]); n <= wide {
			column = max(column, n)
		}
	}
	column += 5 // three blanks before it, two behind
	for _, r := range rows {
		left := "   " + r[0]
		n := utf8.RuneCountInString(left)
		if n+2 > column {
			h.WriteString(left + "\n" + wrapped(r[1], column, column))
			continue
		}
		h.WriteString(left + strings.Repeat(" ", column-n) + wrapped(r[1], 0, column))
	}
}

// wrapped breaks a text at blanks, with a margin for its first line and one for
// the others. A text that stands behind something in its first line has the margin
// 0 and begins at the other one.
func wrapped(text string, first, others int) string { return wrappedTo(Columns, text, first, others) }

func wrappedTo(columns int, text string, first, others int) string {
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", first))
	at := others
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > columns:
			b.WriteString("\n" + strings.Repeat(" ", others))
			at = others
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
	return b.String()
}

// indented is a text with its own lines. A paragraph with a line that is too long is
// broken anew; a command that is too long, which stands further in, goes on in the
// next line as a shell reads it.
func indented(text string) string {
	var b strings.Builder
	var paragraph []string
	end := func() {
		if slices.ContainsFunc(paragraph, tooLong) {
			paragraph = []string{strings.TrimPrefix(strings.TrimRight(wrapped(strings.Join(paragraph, " "), 3, 3), "\n"), "   ")}
		}
		for _, line := range paragraph {
			b.WriteString("   " + line + "\n")
		}
		paragraph = nil
	}
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		line = strings.TrimRight(line, " ")
		switch {
		case line == "":
			end()
			b.WriteByte('\n')
		case line[0] != ' ':
			paragraph = append(paragraph, line)
		default:
			end()
			if !tooLong(line) {
				b.WriteString("   " + line + "\n")
				continue
			}
			margin := 3 + len(line) - len(strings.TrimLeft(line, " "))
			lines := strings.Split(wrappedTo(Columns-2, line, margin, margin+2), "\n")
			b.WriteString(strings.Join(lines[:len(lines)-1], " \\\n") + "\n")
		}
	}
	end()
	return b.String()
}

func tooLong(line string) bool { return 3+utf8.RuneCountInString(line) > Columns }
