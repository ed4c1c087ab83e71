package wire

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ankacluster/ankacluster/internal/access"
)

// Route is one call of a server: what it is called by, what its caller needs, and
// what answers it. A server's routes are in one table.
type Route struct {
	Pattern    string // of http.ServeMux
	Permission access.Permission
	Handler    http.Handler
	// Nodes marks a call that is served also where only nodes are.
	Nodes bool
}

// ForNodes returns r as a call that is served also where only nodes are.
func (r Route) ForNodes() Route {
	r.Nodes = true
	return r
}

// Check reports what r lacks.
func (r Route) Check() error {
	switch {
	case r.Handler == nil:
		return fmt.Errorf("wire: route %q has no handler", r.Pattern)
	case !r.Permission.Known():
		return fmt.Errorf("wire: route %q has no permission", r.Pattern)
	}
	return nil
}

// Mux serves the routes, each to callers that have its permission. It panics on a
// route that is incomplete, or that is there twice.
func (a *API) Mux(routes []Route) *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range routes {
		if err := r.Check(); err != nil {
			panic(err)
		}
		mux.Handle(r.Pattern, a.Protect(r.Permission, r.Handler))
	}
	return mux
}

// Protect answers callers that lack the permission, and hands the others' requests
// to h, with the caller in the context.
func (a *API) Protect(need access.Permission, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		admitted, err := a.Guard.Admit(r, need)
		if err != nil {
			a.WriteError(w, r, Refusal(err))
			return
		}
		h.ServeHTTP(w, admitted)
	})
}

// MsgAuthentication is what clients match on, to the letter.
const MsgAuthentication = "Authentication Required"

// Refusal turns an error of a Guard into an answer. A credential that cannot be
// checked is not a wrong one: its caller asks again.
func Refusal(err error) *Error {
	if errors.Is(err, access.ErrUnauthenticated) {
		return &Error{Status: http.StatusUnauthorized, Message: MsgAuthentication, Cause: err}
	}
	if denied, ok := errors.AsType[*access.DeniedError](err); ok {
		return &Error{Status: http.StatusForbidden, Message: "Not permitted: " + denied.Permission.String(), Cause: err}
	}
	return Unavailable("credentials cannot be checked", err)
}
