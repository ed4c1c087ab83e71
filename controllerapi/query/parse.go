package query

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ankacluster/ankacluster/internal/spelling"
)

// Bounds of a query.
const (
	MaxLength = 1024 // bytes
	MaxTerms  = 64   // terms, and values of their lists
)

// Query is what a list is asked for. The zero value asks for everything.
type Query[T any] struct {
	terms []term[T]
	words func(row *T) []string
}

// term is one condition.
type term[T any] struct {
	not    bool
	key    string // "" of a word
	op     string // ":", ">", ">=", "<" or "<="
	values []value
	field  *Field[T]
	rest   string // of the key
}

// value is one of a term's, as it was written and as it is compared.
type value struct {
	text   string
	number float64 // of a number, or an age in nanoseconds
}

// Parse reads a query. The error tells what is wrong and what may be meant.
func (s *Schema[T]) Parse(text string) (Query[T], error) {
	q := Query[T]{words: s.Words}
	switch {
	case len(text) > MaxLength:
		return q, fmt.Errorf("the query has %d bytes, %d at most", len(text), MaxLength)
	case !utf8.ValidString(text):
		return q, fmt.Errorf("the query is not UTF-8")
	}
	l := lexer{rest: text}
	for values := 0; l.more(); {
		t, err := parseTerm(s, &l)
		if err != nil {
			return Query[T]{}, err
		}
		if values += len(t.values); values > MaxTerms {
			return Query[T]{}, fmt.Errorf("the query has more than %d terms and values", MaxTerms)
		}
		q.terms = append(q.terms, t)
	}
	return q, nil
}

func parseTerm[T any](s *Schema[T], l *lexer) (t term[T], err error) {
	t.not = l.take("-")
	if t.key, t.op = l.key(); t.key == "" {
		word, err := l.value("")
		if err == nil && (word == "" || word == empty) {
			err = fmt.Errorf("a word is missing at %q", cut(l.rest))
		}
		t.values = []value{{text: word}}
		return t, err
	}
	if t.field, t.rest, err = s.field(t.key); err != nil {
		return t, err
	}
	for {
		text, err := l.value(",")
		if err == nil && text == "" {
			err = fmt.Errorf("%s%s needs a value; an empty one is written \"\"", cut(t.key), t.op)
		}
		if text == empty {
			text = ""
		}
		v := value{text: text}
		if err == nil {
			err = t.read(&v)
		}
		if err != nil {
			return t, err
		}
		t.values = append(t.values, v)
		if !l.take(",") {
			break
		}
	}
	if t.op != ":" && len(t.values) > 1 {
		return t, fmt.Errorf("%s%s takes one value, not a list", cut(t.key), t.op)
	}
	return t, nil
}

// read makes the value one of the field's kind.
func (t *term[T]) read(v *value) (err error) {
	key := cut(t.key)
	switch f := t.field; {
	case f.Number != nil:
		if v.number, err = number(v.text); err != nil {
			return fmt.Errorf("%s%s%s: %w", key, t.op, cut(v.text), err)
		}
	case f.Since != nil:
		if t.op == ":" {
			return fmt.Errorf("%s is compared by < and >, as in %s<5m", key, key)
		}
		age, err := duration(v.text)
		if err != nil {
			return fmt.Errorf("%s%s%s: %w", key, t.op, cut(v.text), err)
		}
		v.number = float64(age)
	case t.op != ":":
		return fmt.Errorf("%s has no order: it is compared by :, as in %s:VALUE", key, key)
	case f.Only != nil && !slices.ContainsFunc(f.Only, func(one string) bool { return matches(v.text, one) }):
		return unknownValue(key, v.text, f.Only)
	}
	return nil
}

func unknownValue(key, text string, only []string) error {
	near := spelling.Nearest(strings.ToLower(text), func(yield func(string) bool) {
		for _, one := range only {
			if !yield(strings.ToLower(one)) {
				return
			}
		}
	})
	if near == "" {
		return fmt.Errorf("unknown value %q of %s: there are %s", cut(text), key, strings.Join(only, ", "))
	}
	i := slices.IndexFunc(only, func(one string) bool { return strings.EqualFold(one, near) })
	return fmt.Errorf("unknown value %q of %s; is %q meant?", cut(text), key, only[i])
}

// lexer cuts a query into pieces.
type lexer struct{ rest string }

func (l *lexer) more() bool {
	l.rest = strings.TrimLeftFunc(l.rest, unicode.IsSpace)
	return l.rest != ""
}

func (l *lexer) take(what string) (ok bool) {
	l.rest, ok = strings.CutPrefix(l.rest, what)
	return ok
}

// key takes a key and its operator, if such follow. A key begins with a letter.
func (l *lexer) key() (key, op string) {
	end := strings.IndexFunc(l.rest, func(c rune) bool {
		return c != '.' && c != '_' && c != '-' && !unicode.IsLetter(c) && !unicode.IsDigit(c)
	})
	if end <= 0 {
		return "", ""
	}
	if first, _ := utf8.DecodeRuneInString(l.rest); !unicode.IsLetter(first) {
		return "", ""
	}
	for _, op := range []string{":", ">=", "<=", ">", "<"} {
		if strings.HasPrefix(l.rest[end:], op) {
			key, l.rest = l.rest[:end], l.rest[end+len(op):]
			return key, op
		}
	}
	return "", ""
}

// empty is the value "" that was written in quotes, for parseTerm.
const empty = "\x00"

// value takes a word or a value, up to a space or one of the letters of stop. It is ""
// if there is none.
func (l *lexer) value(stop string) (string, error) {
	var b strings.Builder
	quoted, was := false, false
	for l.rest != "" {
		c, size := utf8.DecodeRuneInString(l.rest)
		switch {
		case c == '"':
			quoted, was = !quoted, true
		case quoted && c == '\\' && len(l.rest) > 1 && strings.ContainsRune(`"\`, rune(l.rest[1])):
			b.WriteByte(l.rest[1])
			size = 2
		case c == 0:
			return "", fmt.Errorf("the query has a NUL")
		case !quoted && (unicode.IsSpace(c) || strings.ContainsRune(stop, c)):
			size = -1
		default:
			b.WriteRune(c)
		}
		if size < 0 {
			break
		}
		l.rest = l.rest[size:]
	}
	switch {
	case quoted:
		return "", fmt.Errorf("a quote is not closed: %q", cut(b.String()))
	case was && b.Len() == 0:
		return empty, nil
	}
	return b.String(), nil
}

// String is the query as it is parsed again into the same one.
func (q Query[T]) String() string {
	var b strings.Builder
	for i, t := range q.terms {
		if i > 0 {
			b.WriteByte(' ')
		}
		if t.not {
			b.WriteByte('-')
		}
		b.WriteString(t.key + t.op)
		for k, v := range t.values {
			if k > 0 {
				b.WriteByte(',')
			}
			b.WriteString(quote(v.text, t.key != ""))
		}
	}
	return b.String()
}

// quote writes a value in quotes if it would be read as something else without.
func quote(text string, keyed bool) string {
	plain := text != "" && !strings.ContainsFunc(text, func(c rune) bool { return unicode.IsSpace(c) || c == '"' || c == ',' })
	if !keyed && plain {
		plain = !strings.ContainsAny(text, ":<>") && text[0] != '-'
	}
	if plain {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// Match reports whether the row is asked for. now is for ages.
func (q Query[T]) Match(row *T, now time.Time) bool {
	for i := range q.terms {
		if t := &q.terms[i]; t.holds(row, q.words, now) == t.not {
			return false
		}
	}
	return true
}

func (t *term[T]) holds(row *T, words func(*T) []string, now time.Time) bool {
	f := t.field
	switch {
	case f == nil:
		word := strings.ToLower(t.values[0].text)
		return slices.ContainsFunc(words(row), func(s string) bool { return strings.Contains(strings.ToLower(s), word) })
	case f.Number != nil:
		n, ok := f.Number(row)
		return ok && t.compares(n)
	case f.Since != nil:
		at := f.Since(row)
		return !at.IsZero() && t.compares(float64(now.Sub(at)))
	}
	for _, have := range f.Text(row, t.rest) {
		for _, v := range t.values {
			if matches(v.text, have) {
				return true
			}
		}
	}
	return false
}

func (t *term[T]) compares(n float64) bool {
	want := t.values[0].number
	switch t.op {
	case ">":
		return n > want
	case ">=":
		return n >= want
	case "<":
		return n < want
	case "<=":
		return n <= want
	}
	return slices.ContainsFunc(t.values, func(v value) bool { return v.number == n })
}
