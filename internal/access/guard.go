package access

import (
	"context"
	"errors"
	"net/http"
)

// ErrUnauthenticated: the request has no credential, or a bad one.
var ErrUnauthenticated = errors.New("authentication required")

// DeniedError is the error for a caller that is known and lacks a permission.
type DeniedError struct {
	Principal  Principal
	Permission Permission
}

func (e *DeniedError) Error() string { return "not permitted: " + e.Permission.String() }

// Authenticator finds out who asks, from what the request carries.
type Authenticator interface {
	// Authenticate returns the caller of r, or ErrUnauthenticated. Any other error
	// means that the credential could not be checked.
	Authenticate(r *http.Request) (Principal, error)
}

// Authorizer decides what callers may do.
type Authorizer interface {
	// Authorize returns nil if p has the permission, and a *DeniedError if not. Any
	// other error means that it could not be found out.
	Authorize(ctx context.Context, p Principal, need Permission) error
}

// Open lets every caller in as Anonymous, and permits everything.
type Open struct{}

// Authenticate implements Authenticator.
func (Open) Authenticate(*http.Request) (Principal, error) { return Anonymous, nil }

// Authorize implements Authorizer.
func (Open) Authorize(context.Context, Principal, Permission) error { return nil }

// Guard stands before the handlers of a server. The zero value is that of Open.
type Guard struct {
	Authenticator Authenticator // nil means Open
	Authorizer    Authorizer    // nil means Open
}

// Admit returns r with its caller in the context, if the caller has the
// permission. Public is admitted without a look at credentials: a bad one must
// not fail a probe. The errors are those of Authenticator and Authorizer.
func (g Guard) Admit(r *http.Request, need Permission) (*http.Request, error) {
	caller := Anonymous
	if need != Public {
		var err error
		if g.Authenticator != nil {
			if caller, err = g.Authenticator.Authenticate(r); err != nil {
				return nil, err
			}
		}
		if g.Authorizer != nil {
			if err = g.Authorizer.Authorize(r.Context(), caller, need); err != nil {
				return nil, err
			}
		}
	}
	return r.WithContext(With(r.Context(), caller)), nil
}

// Permits returns nil if the caller in ctx, whom Admit let in, has another permission.
// The errors are those of Authorizer.
func (g Guard) Permits(ctx context.Context, need Permission) error {
	if g.Authorizer == nil {
		return nil
	}
	return g.Authorizer.Authorize(ctx, From(ctx), need)
}
