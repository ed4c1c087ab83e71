package termstyle

import (
	"bytes"
	"slices"
	"testing"
)

func TestAPipeGetsPlainText(t *testing.T) {
	t.Parallel()
	l := Of(new(bytes.Buffer))
	if got := l.Bad("down") + l.Sign(Bad) + l.Bold("x"); got != "downx" {
		t.Errorf("got %q", got)
	}
	if l.Width() != 80 {
		t.Errorf("width %d", l.Width())
	}
}

func TestColoursAndSignsAreApart(t *testing.T) {
	t.Parallel()
	if got := (Look{Terminal: true}).Sign(Good); got != "✓ " {
		t.Errorf("without colours: %q", got)
	}
	if got := (Look{Terminal: true, Colour: true}).Sign(Bad); got != "\x1b[31m✗\x1b[0m " {
		t.Errorf("with colours: %q", got)
	}
}

func TestWrapBreaksBetweenWords(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"one two", []string{"one two"}},
		{"one two three four", []string{"one two", "three", "four"}},
		{"ünë twö x", []string{"ünë twö", "x"}}, // columns, not bytes
		{"a-word-of-its-own b", []string{"a-word-of-its-own", "b"}},
	} {
		if got := Wrap(tc.text, 8); !slices.Equal(got, tc.want) {
			t.Errorf("Wrap(%q) = %q, want %q", tc.text, got, tc.want)
		}
	}
}
