package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrRefused: an argument could be read as something else than a value. The command
// was not run.
var ErrRefused = errors.New("refused as an argument of a command")

// word is an argument that stands in this program. Its name is not exported, so that
// outside of this package only constants become words.
type word string

// Args are the arguments of a command. The zero value has none. Values that came from
// outside are no options: without that a template called --all would be one.
type Args struct {
	list []string
	err  error
}

// Words returns the arguments that begin with words.
func Words(words ...word) Args { return Args{}.Words(words...) }

// Words returns a with words behind.
func (a Args) Words(words ...word) Args {
	a.list = slices.Clip(a.list)
	for _, w := range words {
		a.list = append(a.list, string(w))
	}
	return a
}

// Values returns a with values behind. A value that is empty, begins with a dash or
// has a control character makes the command one that Run refuses.
func (a Args) Values(values ...string) Args {
	a.list = slices.Concat(a.list, values)
	for _, v := range values {
		if err := checkValue(v); err != nil && a.err == nil {
			a.err = err
		}
	}
	return a
}

// Text returns a with an option behind whose value is free text, which is not read
// as an option.
func (a Args) Text(option word, text string) Args {
	if strings.HasPrefix(text, "-") {
		text = " " + text
	}
	a = a.Words(option)
	a.list = append(a.list, text)
	if strings.ContainsRune(text, 0) && a.err == nil {
		a.err = fmt.Errorf("%.100q: %w: it has a zero byte", text, ErrRefused)
	}
	return a
}

// Join returns a with the arguments of b behind.
func (a Args) Join(b Args) Args {
	a.list = slices.Concat(a.list, b.list)
	if a.err == nil {
		a.err = b.err
	}
	return a
}

// Err returns why a command with these arguments is not run, or nil.
func (a Args) Err() error { return a.err }

// Verb names a command for metrics and errors: the first argument that is no option,
// or else the first.
func (a Args) Verb() string {
	for _, arg := range a.list {
		if !strings.HasPrefix(arg, "-") {
			return arg
		}
	}
	if len(a.list) > 0 {
		return a.list[0]
	}
	return "none"
}

func (a Args) String() string { return strings.Join(a.list, " ") }

func checkValue(v string) error {
	switch {
	case v == "":
		return fmt.Errorf("an empty value: %w", ErrRefused)
	case v[0] == '-':
		return fmt.Errorf("%.100q: %w: it begins with a dash", v, ErrRefused)
	case strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return fmt.Errorf("%.100q: %w: it has a control character", v, ErrRefused)
	}
	return nil
}
