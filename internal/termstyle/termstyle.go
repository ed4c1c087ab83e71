// Package termstyle is how text looks to a person: colour and signs on a terminal,
// plain words in a pipe, and lines that fit the window.
package termstyle

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Look is how a writer is written to. The zero value is plain text.
type Look struct {
	Terminal bool // signs are shown, and a screen can be drawn anew
	Colour   bool
	width    int
}

// Of returns the look of w, which may have one itself. NO_COLOR and TERM=dumb switch
// colours off.
func Of(w io.Writer) Look {
	if of, ok := w.(interface{ Look() Look }); ok {
		return of.Look()
	}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Look{}
	}
	l := Look{Terminal: os.Getenv("TERM") != "dumb"}
	l.Colour = l.Terminal && os.Getenv("NO_COLOR") == ""
	if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
		l.width = columns
	}
	return l
}

// Width is how long a line may be: that of the window, and 80 in a pipe.
func (l Look) Width() int {
	if l.width < 40 {
		return 80
	}
	return l.width
}

// The sixteen basic colours follow the terminal's theme, light or dark.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (l Look) paint(code, text string) string {
	if !l.Colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold, Dim, Good, Warn and Bad paint a text on a terminal with colours.
func (l Look) Bold(text string) string { return l.paint(bold, text) }
func (l Look) Dim(text string) string  { return l.paint(dim, text) }
func (l Look) Good(text string) string { return l.paint(green, text) }
func (l Look) Warn(text string) string { return l.paint(yellow, text) }
func (l Look) Bad(text string) string  { return l.paint(red, text) }

// Level is how well something is.
type Level int

// Levels.
const (
	None Level = iota // neither good nor bad yet
	Good
	Warn
	Bad
)

// Paint paints a text by its level.
func (l Look) Paint(level Level, text string) string {
	switch level {
	case Good:
		return l.Good(text)
	case Warn:
		return l.Warn(text)
	case Bad:
		return l.Bad(text)
	}
	return text
}

// Sign stands before a line on a terminal; in a pipe it is empty: there the words
// have to do, and programs look for them at the line's begin.
func (l Look) Sign(level Level) string {
	if !l.Terminal {
		return ""
	}
	return l.Paint(level, [...]string{"·", "✓", "!", "✗"}[level]) + " "
}

// Wrap breaks text into lines of at most width columns, between words. A word that
// is longer has a line of its own.
func Wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// A screen is drawn anew from Home, line by line with ClearLine at the end of each,
// and ClearBelow after the last: nothing flickers, as with a screen that is cleared.
const (
	Home       = "\x1b[H"
	ClearLine  = "\x1b[K"
	ClearBelow = "\x1b[J"
)
