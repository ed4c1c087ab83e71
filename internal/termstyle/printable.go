package termstyle

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Printable returns text as it can be shown in one line: what would move the cursor,
// end the line, turn the direction of writing or be unseen is written out, as \x1b.
// What servers, registries and logs hold may have been made to be read by a terminal.
func Printable(text string) string {
	if !strings.ContainsFunc(text, func(c rune) bool { return hidden(c) || c == utf8.RuneError }) {
		return text
	}
	var b strings.Builder
	for i, c := range text {
		switch {
		case c == utf8.RuneError && text[i] != "\uFFFD"[0]:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !hidden(c):
			b.WriteRune(c)
		case c < 0x80:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

// hidden reports whether a character does something to a terminal, or to the reading
// of what stands beside it.
func hidden(c rune) bool {
	return unicode.IsControl(c) || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 || c == 0x2028 || c == 0x2029
}

// own are the sequences that Look paints with. Whoever smuggles one in paints, and
// does no more.
var own = regexp.MustCompile(`^\x1b\[(?:[0-2]|3[123])m`)

// maxOwn is the length of the longest of them.
const maxOwn = len("\x1b[31m")

// Guard returns w, if it is a terminal, with everything unprintable written out but
// colours, tabs and ends of lines. Programs that read a pipe get every byte.
func Guard(w io.Writer) io.Writer {
	look := Of(w)
	if !look.Terminal {
		return w
	}
	return &guard{out: w, look: look}
}

// Raw returns the writer below a Guard, for what draws a screen or a bar.
func Raw(w io.Writer) io.Writer {
	if g, ok := w.(*guard); ok {
		return g.out
	}
	return w
}

// guard is safe for concurrent use.
type guard struct {
	out  io.Writer
	look Look

	mu   sync.Mutex
	rest []byte // guarded by mu; the begin of a character or a colour whose end is not there yet
}

// Look is the terminal's.
func (g *guard) Look() Look { return g.look }

func (g *guard) Write(data []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	text := append(g.rest, data...)
	g.rest = nil
	var b strings.Builder
	for len(text) > 0 {
		if text[0] == '\x1b' {
			if m := own.Find(text); m != nil {
				b.Write(m)
				text = text[len(m):]
				continue
			}
			if len(text) < maxOwn && text[len(text)-1] < 0x40 && (len(text) < 2 || text[1] == '[') || len(text) == 2 && text[1] == '[' {
				g.rest = text
				break
			}
		}
		if !utf8.FullRune(text) {
			g.rest = text
			break
		}
		c, size := utf8.DecodeRune(text)
		if c == '\n' || c == '\t' {
			b.WriteRune(c)
		} else {
			b.WriteString(Printable(string(text[:size])))
		}
		text = text[size:]
	}
	if _, err := io.WriteString(g.out, b.String()); err != nil {
		return 0, err
	}
	return len(data), nil
}
