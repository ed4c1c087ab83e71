package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/oci"
)

// doorman admits callers as ada, and notes what they needed.
type doorman struct {
	needed []access.Permission
	err    error
}

var ada = access.Principal{Kind: access.KindUser, Name: "ada"}

func (d *doorman) Authenticate(*http.Request) (access.Principal, error) { return ada, d.err }

func (d *doorman) Authorize(_ context.Context, _ access.Principal, need access.Permission) error {
	d.needed = append(d.needed, need)
	return nil
}

// guarded returns a server that is not run.
func guarded(t *testing.T, d *doorman) *Server {
	t.Helper()
	cfg := testConfig(t.TempDir())
	cfg.Access = access.Guard{Authenticator: d, Authorizer: d}
	s, err := New(cfg, openStore(t, cfg.Root), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pathOf is a path of the distribution API.
var pathOf = map[oci.Kind]string{
	oci.Base: "/v2/", oci.Catalog: "/v2/_catalog", oci.Tags: "/v2/a/tags/list", oci.Manifest: "/v2/a/manifests/v1",
	oci.Blob: "/v2/a/blobs/sha256:" + strings.Repeat("0", 64), oci.Uploads: "/v2/a/blobs/uploads/", oci.Upload: "/v2/a/blobs/uploads/u1",
	oci.Referrers: "/v2/a/referrers/sha256:" + strings.Repeat("0", 64),
}

func TestEveryRouteHasAPermissionAndItsHandlerACaller(t *testing.T) {
	t.Parallel()
	d := &doorman{}
	s := guarded(t, d)
	var caller access.Principal
	routes, ociRoutes := s.routes(), s.ociRoutes()
	for i, r := range routes {
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		routes[i].Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { caller = access.From(r.Context()) })
	}
	for i, r := range ociRoutes {
		if !r.need.Known() {
			t.Fatalf("%s %v needs nothing", r.method, r.kind)
		}
		ociRoutes[i].handle = func(_ http.ResponseWriter, r *http.Request, _ oci.Request) error {
			caller = access.From(r.Context())
			return nil
		}
	}
	h := s.router(routes, ociRoutes)
	check := func(method, path string, need access.Permission) {
		caller, d.needed = access.Principal{}, nil
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("{}")))
		want, needed := ada, []access.Permission{need}
		if need == access.Public {
			want, needed = access.Anonymous, nil
		}
		if caller.String() != want.String() || caller.Kind == "" || !slices.Equal(d.needed, needed) {
			t.Errorf("%s %s: caller %q, needed %v; want %q and %v", method, path, caller, d.needed, want, needed)
		}
		if of := need.Component(); of == access.OfController {
			t.Errorf("%s %s needs %s of the %s", method, path, need, of)
		}
	}
	for _, r := range routes {
		method, path, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			method, path = http.MethodGet, r.Pattern
		}
		check(method, strings.NewReplacer("{$}", "", "{name...}", "x").Replace(path), r.Permission)
	}
	for _, r := range ociRoutes {
		check(r.method, pathOf[r.kind], r.need)
	}
}

func TestCallersWithoutACredentialAreRefusedEverywhereButAtProbes(t *testing.T) {
	t.Parallel()
	g := serveRegistry(t, guarded(t, &doorman{err: access.ErrUnauthenticated}))
	for _, path := range []string{"/registry/vm", "/registry/v2/vm", "/registry/files", "/registry/v1/changes", "/", "/x"} {
		if a := g.want(401, "GET", path, nil); string(a.body) != `{"status":"FAIL","message":"Authentication Required"}`+"\n" {
			t.Errorf("%s: %q", path, a.body)
		}
	}
	for _, path := range []string{"/v2/", "/v2/vm/tags/list", "/v2/vm/nothing"} {
		a := g.want(401, "GET", path, nil)
		if string(a.body) != `{"errors":[{"code":"UNAUTHORIZED","message":"Authentication Required"}]}` || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %q %v", path, a.body, a.header)
		}
	}
	g.want(200, "GET", "/livez", nil)
	g.want(200, "GET", "/readyz", nil)
}

// What stands around a server comes behind the check of its caller, and sees the
// path that is served.
func TestWhatStandsAroundComesBehindTheGuard(t *testing.T) {
	t.Parallel()
	d := &doorman{}
	s := guarded(t, d)
	var seen []string
	s.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, access.From(r.Context()).Name+" "+r.URL.Path)
			next.ServeHTTP(w, r)
		})
	})
	for _, path := range []string{"//registry/status", "/v2/", "/livez", "/x"} {
		s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	}
	d.err = access.ErrUnauthenticated
	for _, path := range []string{"/registry/status", "/v2/", "/x"} {
		s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	}
	if want := []string{"ada /registry/status", "ada /v2/", "ada /x"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}
