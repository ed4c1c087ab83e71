package wire

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/access"
)

// always is an Authenticator that knows one caller.
type always struct{ name string }

func (a always) Authenticate(*http.Request) (access.Principal, error) {
	return access.Principal{Kind: access.KindUser, Name: a.name}, nil
}

// never is an Authenticator that knows none.
type never struct{ err error }

func (n never) Authenticate(*http.Request) (access.Principal, error) {
	return access.Principal{}, n.err
}

func TestRouteWithoutPermissionOrHandlerIsRefused(t *testing.T) {
	t.Parallel()
	for _, r := range []Route{
		{Pattern: "GET /a", Handler: http.NotFoundHandler()},
		{Pattern: "GET /b", Permission: 255, Handler: http.NotFoundHandler()},
		{Pattern: "GET /c", Permission: access.Public},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v is served", r)
				}
			}()
			(&API{}).Mux([]Route{r})
		}()
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		code int
		body string
	}{
		"no credential":     {access.ErrUnauthenticated, 401, `{"status":"FAIL","message":"Authentication Required"}`},
		"lacks it":          {&access.DeniedError{Permission: access.StartVM}, 403, `{"status":"FAIL","message":"Not permitted: start_vm"}`},
		"cannot be checked": {errors.New("etcd is away"), 503, `{"status":"FAIL","message":"credentials cannot be checked"}`},
	} {
		api := &API{Log: zap.NewNop(), Guard: access.Guard{Authenticator: never{c.err}}}
		mux := api.Mux([]Route{{Pattern: "POST /vm", Permission: access.StartVM, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			t.Errorf("%s: the handler is called", name)
		})}})
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/vm", nil))
		if w.Code != c.code || w.Body.String() != c.body+"\n" {
			t.Errorf("%s: %d %q, want %d %q", name, w.Code, w.Body, c.code, c.body)
		}
	}
}
