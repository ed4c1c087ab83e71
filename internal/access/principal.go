package access

import "context"

// Kind is what a principal is.
type Kind string

// The kinds. More come with the first credentials.
const (
	KindAnonymous Kind = "anonymous"
	KindUser      Kind = "user"
)

// Principal is the caller of a request, as its credential shows it.
type Principal struct {
	Kind   Kind
	Name   string   // unique among principals of its kind; "" for Anonymous
	Groups []string // permission groups
}

// Anonymous is the caller of whom nothing is known.
var Anonymous = Principal{Kind: KindAnonymous}

// IsAnonymous reports whether nothing is known of the caller.
func (p Principal) IsAnonymous() bool { return p.Kind == KindAnonymous || p.Kind == "" }

// String names p among principals of all kinds.
func (p Principal) String() string {
	if p.IsAnonymous() {
		return string(KindAnonymous)
	}
	return string(p.Kind) + ":" + p.Name
}

type principalKey struct{}

// With returns ctx for a request of p.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns the caller of the request that ctx belongs to. It is Anonymous
// where no Guard has admitted the request.
func From(ctx context.Context) Principal {
	if p, ok := ctx.Value(principalKey{}).(Principal); ok {
		return p
	}
	return Anonymous
}

// Admitted reports whether a Guard has admitted the request that ctx belongs to.
func Admitted(ctx context.Context) bool {
	_, ok := ctx.Value(principalKey{}).(Principal)
	return ok
}
