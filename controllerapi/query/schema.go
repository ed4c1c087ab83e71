package query

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/internal/spelling"
)

// Schema is what can be asked of a list of T.
type Schema[T any] struct {
	Fields []Field[T]
	// Words are what words are looked for in.
	Words func(row *T) []string
	// ID orders what is equal otherwise.
	ID func(row *T) string
	// Default is the order without sort; a zero Field is that of ids.
	Default Field[T]
}

// Field is a key. One of Text, Number and Since is set.
type Field[T any] struct {
	// Name ends with a dot if the rest of the key is an argument of Text: meta.KEY.
	Name string
	// Text returns the values, each of which may match.
	Text func(row *T, rest string) []string
	// Only are the values that there are, nil when any may be.
	Only []string
	// Number returns false where there is none.
	Number func(row *T) (float64, bool)
	// Since is when an age began, the zero time where there is none.
	Since func(row *T) time.Time
}

// field finds the field of a key, and the rest of the key.
func (s *Schema[T]) field(key string) (f *Field[T], rest string, err error) {
	for i := range s.Fields {
		f := &s.Fields[i]
		if key == f.Name {
			if strings.HasSuffix(f.Name, ".") {
				break
			}
			return f, "", nil
		}
		if rest, ok := strings.CutPrefix(key, f.Name); ok && strings.HasSuffix(f.Name, ".") && rest != "" {
			return f, rest, nil
		}
	}
	names := s.names()
	if near := spelling.Nearest(key, slices.Values(names)); near != "" {
		return nil, "", fmt.Errorf("unknown key %q; is %q meant?", cut(key), near)
	}
	return nil, "", fmt.Errorf("unknown key %q: there are %s; a word with : in it goes in quotes", cut(key), strings.Join(names, ", "))
}

func (s *Schema[T]) names() []string {
	out := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		out[i] = f.Name
		if strings.HasSuffix(f.Name, ".") {
			out[i] += "KEY"
		}
	}
	return out
}

// cut keeps what somebody wrote short in an error.
func cut(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
