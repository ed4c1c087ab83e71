package cloud

import "fmt"

// Refused is an error of this package with what it is about: which group, which
// node. Its text is for the caller, without what it is wrapped with on the way.
type Refused struct {
	Kind error // one of this package's
	text string
}

func (e *Refused) Error() string { return e.text }

func (e *Refused) Unwrap() error { return e.Kind }

// refuse returns a Refused of a kind. format and args follow the kind's text.
func refuse(kind error, format string, args ...any) error {
	return &Refused{kind, kind.Error() + fmt.Sprintf(format, args...)}
}
