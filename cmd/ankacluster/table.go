package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// table is a list for people: its columns are as wide as they need to be, and give way,
// the widest first, where the window is narrower.
type table struct {
	look termstyle.Look
	out  io.Writer
	rows [][]cell
}

// cell is one field of a table, with how well it is.
type cell struct {
	text  string
	level termstyle.Level
}

// narrowest is how far a column gives way.
const narrowest = 6

func newTable(out io.Writer, headers ...string) *table {
	t := &table{look: termstyle.Of(out), out: out}
	t.add(toAny(headers)...)
	return t
}

func toAny(words []string) (all []any) {
	for _, w := range words {
		all = append(all, w)
	}
	return all
}

// add adds a row: cells, or what prints as one.
func (t *table) add(fields ...any) {
	row := make([]cell, len(fields))
	for i, f := range fields {
		c, ok := f.(cell)
		if !ok {
			c.text = fmt.Sprint(f)
		}
		c.text = dash(oneLine(c.text))
		row[i] = c
	}
	t.rows = append(t.rows, row)
}

// dropEmpty takes the columns out that no row has anything in.
func (t *table) dropEmpty() {
	for i := len(t.rows[0]) - 1; i >= 0; i-- {
		if !slices.ContainsFunc(t.rows[1:], func(row []cell) bool { return row[i].text != dash("") }) {
			for r := range t.rows {
				t.rows[r] = slices.Delete(t.rows[r], i, i+1)
			}
		}
	}
}

// print writes the table.
func (t *table) print() error {
	w := bufio.NewWriter(t.out)
	widths := t.widths()
	for r, row := range t.rows {
		var line strings.Builder
		for i, c := range row {
			text := cut(c.text, widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
			if i == len(row)-1 {
				pad = ""
			}
			if r == 0 {
				text = t.look.Bold(text)
			}
			line.WriteString(t.look.Paint(c.level, text) + pad)
		}
		fmt.Fprintln(w, line.String())
	}
	return w.Flush()
}

func (t *table) widths() []int {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > t.look.Width(); total-- {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= narrowest {
			break
		}
		widths[widest]--
	}
	return widths
}

// cut shortens a text to a width, and shows that it did.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// oneLine is a text of others as a line shows it: without what moves a terminal's cursor.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
}

// facts is a list of what is known of one thing: a word and what it is, a line each.
type facts struct {
	look termstyle.Look
	w    *bufio.Writer
}

func newFacts(out io.Writer) facts { return facts{termstyle.Of(out), bufio.NewWriter(out)} }

// factColumn is how wide the words are.
const factColumn = 12

// row writes one fact, unless there is nothing to say.
func (f facts) row(level termstyle.Level, name, format string, args ...any) {
	text := oneLine(fmt.Sprintf(format, args...))
	for i, line := range termstyle.Wrap(text, f.look.Width()-factColumn) {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(f.w, "%s%s\n", f.look.Bold(fmt.Sprintf("%-*s", factColumn, name)), f.look.Paint(level, line))
	}
}
