package clouds

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ankacluster/ankacluster/internal/spelling"
)

// Named is something that people name: by its id, by its name, or by the beginning of
// either, as long as that is of one only.
type Named struct{ ID, Name string }

// NotFound says that nothing has the name.
type NotFound struct {
	Kind, Word string
	Near       string // what was perhaps meant, or ""
}

func (e *NotFound) Error() string { return fmt.Sprintf("there is no %s %q", e.Kind, e.Word) }

// Ambiguous says that several have the name.
type Ambiguous struct {
	Kind, Word string
	Found      []Named
}

func (e *Ambiguous) Error() string {
	const shown = 5
	var words []string
	for _, n := range e.Found[:min(len(e.Found), shown)] {
		words = append(words, strings.TrimSpace(n.Name+" ("+n.ID+")"))
	}
	if more := len(e.Found) - shown; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("%q may be %d %ss: %s", e.Word, len(e.Found), e.Kind, strings.Join(words, ", "))
}

// Find returns the id of what the word names, *NotFound or *Ambiguous. What has the
// word as its id or name comes before what only begins with it.
func Find(kind, word string, all []Named) (Named, error) {
	matches := []func(Named) bool{
		func(n Named) bool { return n.ID == word },
		func(n Named) bool { return n.Name == word },
		func(n Named) bool { return strings.HasPrefix(n.ID, word) || strings.HasPrefix(n.Name, word) },
	}
	for _, match := range matches {
		var found []Named
		for _, n := range all {
			if word != "" && match(n) {
				found = append(found, n)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			slices.SortFunc(found, func(a, b Named) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID)) })
			return Named{}, &Ambiguous{kind, word, found}
		}
	}
	near := spelling.Nearest(word, func(yield func(string) bool) {
		for _, n := range all {
			if n.Name != "" && !yield(n.Name) {
				return
			}
		}
	})
	return Named{}, &NotFound{kind, word, near}
}

// shortest is the least number of letters of an id that is shown in part.
const shortest = 8

// Short returns how much of the ids is enough to tell them apart.
func Short(ids []string) func(id string) string {
	n := shortest
	sorted := slices.Sorted(slices.Values(ids))
	for i := 1; i < len(sorted); i++ {
		same := 0
		for same < min(len(sorted[i-1]), len(sorted[i])) && sorted[i-1][same] == sorted[i][same] {
			same++
		}
		n = max(n, same+1)
	}
	return func(id string) string { return id[:min(n, len(id))] }
}
