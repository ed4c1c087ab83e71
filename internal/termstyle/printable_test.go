package termstyle

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"macOS 15 (arm64), ünïcode 機": "macOS 15 (arm64), ünïcode 機",
		"a\x1b[2Jb":                   `a\x1b[2Jb`,
		"two\nlines\r":                `two\x0alines\x0d`,
		"\u009b31m":                   `\u009b31m`,
		"evil\u202etxt.exe":           `evil\u202etxt.exe`,
		"cut\xff":                     `cut\xff`,
		"kept \uFFFD":                 "kept \uFFFD",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// terminal is a writer that looks like one.
type terminal struct{ bytes.Buffer }

func (*terminal) Look() Look { return Look{Terminal: true, Colour: true} }

func TestATerminalGetsNoSequencesButColours(t *testing.T) {
	t.Parallel()
	text := "\x1b[31mred\x1b[0m \x1b[1mbold\x1b[0m\tü\n\x1b[2J\x1b[H\x1b]0;title\x07\x1b[8mhidden\x9b1J\u009b1J\r\x1b"
	want := "\x1b[31mred\x1b[0m \x1b[1mbold\x1b[0m\tü\n" + `\x1b[2J\x1b[H\x1b]0;title\x07\x1b[8mhidden\x9b1J\u009b1J\x0d`
	for _, step := range []int{len(text), 1, 2, 3} { // however it is cut
		out := new(terminal)
		w := Guard(out)
		for rest := text; rest != ""; rest = rest[min(step, len(rest)):] {
			if n, err := io.WriteString(w, rest[:min(step, len(rest))]); err != nil || n != min(step, len(rest)) {
				t.Fatal(n, err)
			}
		}
		if got := out.String(); got != want {
			t.Errorf("in steps of %d:\ngot  %q\nwant %q", step, got, want)
		}
	}
	pipe := new(bytes.Buffer)
	if Guard(pipe) != io.Writer(pipe) {
		t.Error("a pipe is guarded")
	}
	out := new(terminal)
	if w := Guard(out); !Of(w).Colour || Raw(w) != io.Writer(out) || Raw(pipe) != io.Writer(pipe) {
		t.Error("a guarded terminal does not look like one, or cannot be drawn on")
	}
}

func FuzzGuard(f *testing.F) {
	f.Add([]byte("\x1b[31mx\x1b[0m\x1b[2J\x9b"), 3)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		whole, cut := new(terminal), new(terminal)
		_, _ = Guard(whole).Write(text)
		at = max(0, min(at, len(text)))
		w := Guard(cut)
		_, _ = w.Write(text[:at])
		_, _ = w.Write(text[at:])
		if whole.String() != cut.String() {
			t.Errorf("cut at %d: %q and %q", at, whole, cut)
		}
		left := strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[2m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\n", "", "\t", "").Replace(whole.String())
		if !utf8.ValidString(left) || strings.ContainsFunc(left, hidden) {
			t.Errorf("%q is left of %q", left, text)
		}
	})
}
