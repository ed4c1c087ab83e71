package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/wire"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// offline returns a server that is not run: its etcd does not answer.
func offline(t *testing.T, guard access.Guard) *Server {
	t.Helper()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:1"}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	cfg := DefaultConfig()
	cfg.ID, cfg.AllowEmptyRegistry, cfg.Access = "c1", true, guard
	s, err := New(cfg, etcd, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// doorman admits callers as ada, and notes what they needed.
type doorman struct {
	needed []access.Permission
	err    error
}

var ada = access.Principal{Kind: access.KindUser, Name: "ada"}

func (g *doorman) Authenticate(*http.Request) (access.Principal, error) { return ada, g.err }

func (g *doorman) Authorize(_ context.Context, _ access.Principal, need access.Permission) error {
	g.needed = append(g.needed, need)
	return nil
}

// callOf returns a request for a route.
func callOf(t *testing.T, r wire.Route) *http.Request {
	method, path, ok := strings.Cut(r.Pattern, " ")
	if !ok {
		t.Fatalf("%s: a route names its method", r.Pattern)
	}
	return httptest.NewRequestWithContext(t.Context(), method, strings.ReplaceAll(path, "{name}", "x"), strings.NewReader("{}"))
}

func TestEveryRouteHasAPermissionAndItsHandlerACaller(t *testing.T) {
	t.Parallel()
	g := &doorman{}
	s := offline(t, access.Guard{Authenticator: g, Authorizer: g})
	routes := s.routes()
	var asked wire.Route
	var caller access.Principal
	for i := range routes {
		if err := routes[i].Check(); err != nil {
			t.Fatal(err)
		}
		if of := routes[i].Permission.Component(); of == access.OfRegistry {
			t.Errorf("%s needs %s of the %s", routes[i].Pattern, routes[i].Permission, of)
		}
		routes[i].Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { caller = access.From(r.Context()) })
	}
	h := s.serve(routes, s.notFound)
	for _, asked = range routes {
		caller, g.needed = access.Principal{}, nil
		h.ServeHTTP(httptest.NewRecorder(), callOf(t, asked))
		want, needed := ada, []access.Permission{asked.Permission}
		if asked.Permission == access.Public {
			want, needed = access.Anonymous, nil
		}
		if caller.String() != want.String() || caller.Kind == "" || !slices.Equal(g.needed, needed) {
			t.Errorf("%s: caller %q, needed %v; want %q and %v", asked.Pattern, caller, g.needed, want, needed)
		}
	}
}

func TestCallersWithoutACredentialAreRefusedEverywhereButInPublic(t *testing.T) {
	t.Parallel()
	g := &doorman{err: access.ErrUnauthenticated}
	s := offline(t, access.Guard{Authenticator: g, Authorizer: g})
	h := s.Handler()
	for _, r := range s.routes() {
		w := httptest.NewRecorder()
		if r.Permission == access.Public {
			continue
		}
		h.ServeHTTP(w, callOf(t, r))
		if want := `{"status":"FAIL","message":"Authentication Required"}` + "\n"; w.Code != http.StatusUnauthorized || w.Body.String() != want {
			t.Errorf("%s: %d %q", r.Pattern, w.Code, w.Body)
		}
	}
}

func TestNodesHandlerServesWhatAgentsAskForAndNoMore(t *testing.T) {
	t.Parallel()
	s := offline(t, access.Guard{})
	h := s.NodesHandler()
	for _, r := range s.routes() {
		wanted := strings.Contains(r.Pattern, "/api/v1/agent/") || slices.Contains([]string{"GET /livez", "GET /readyz", "GET /pkg/{name}", "GET /api/v1/status", "GET /api/v1/cluster"}, r.Pattern)
		if r.Nodes != wanted {
			t.Errorf("%s: served to nodes %t, want %t", r.Pattern, r.Nodes, wanted)
		}
	}
	for path, want := range map[string]int{
		"GET /livez": 200, "GET /readyz": 503, "GET /pkg/AnkaAgentArm.pkg": 404, "GET /api/v1/status": 200, "POST /api/v1/status": 405,
		"GET /api/v1/vm": 404, "POST /api/v1/vm": 404, "GET /api/v1/node": 404, "GET /api/v1/agents": 404, "GET /": 404,
	} {
		method, path, _ := strings.Cut(path, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		if w.Code != want {
			t.Errorf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, want)
		}
	}
}

func TestEventsNameTheirCaller(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		caller access.Principal
		user   string
	}{{ada, "ada"}, {access.Anonymous, ""}} {
		e := newEventLog(Config{ID: "c1", EventLogURL: "http://127.0.0.1:1"}, zap.NewNop())
		r := httptest.NewRequestWithContext(access.With(t.Context(), c.caller), http.MethodPost, "/api/v1/vm", nil)
		e.api(r, "StartVM", nil)
		if ev := <-e.sinks[0].queue; ev.User != c.user {
			t.Errorf("user %q of an event of %s, want %q", ev.User, c.caller, c.user)
		}
	}
}

// A failure that a controller of before kept under an idempotency key is answered again
// with its code, which is not in the envelope. Those from before codes kept none.
func TestFailureThatWasKeptHasItsCode(t *testing.T) {
	t.Parallel()
	s := offline(t, access.Guard{})
	for stored, want := range map[string]string{
		`{"status":"FAIL","message":"No such group g","code":"no_such_group"}`: "no_such_group",
		`{"status":"FAIL","message":"No such group g"}`:                        "failed",
	} {
		first, again := httptest.NewRecorder(), httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/vm", nil)
		s.api.WriteError(first, r, wire.Fail("No such group g"))
		s.replay(again, r, json.RawMessage(stored))
		if again.Body.String() != first.Body.String() || again.Code != http.StatusOK || again.Header().Get(wire.ErrorHeader) != want {
			t.Errorf("%s is told as %d %q %q, want %q", stored, again.Code, again.Header().Get(wire.ErrorHeader), again.Body, want)
		}
	}
	done := httptest.NewRecorder()
	s.replay(done, nil, kept([]string{"a"}))
	if got := done.Body.String(); got != `{"status":"OK","message":"","body":["a"]}`+"\n" || done.Header().Get(wire.ErrorHeader) != "" {
		t.Errorf("got %q", got)
	}
}

// What the store says of a group or node reaches the caller without what it was
// wrapped with on the way.
func TestAnswersOfTheStore(t *testing.T) {
	t.Parallel()
	for _, a := range answers {
		err := answer(fmt.Errorf("make the instances of batch b: %w", a.err))
		if e, ok := isFailure(err); !ok || !errors.Is(err, a.code) || strings.Contains(e.Message, "batch") || e.Message == "" {
			t.Errorf("%v is answered by %v", a.err, err)
		}
	}
}
