package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// routes is the whole API: the REST calls by the table below, and everything
// under /v2/ by serveOCI, whose paths have names with slashes in the middle.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	// The words behind a handler are the parameters that its call takes.
	api := func(h wire.HandlerFunc, takes ...string) http.Handler {
		return s.api.Handle(wire.Taking(h, takes...))
	}
	target := []string{"id", "tag", "version", "number"}
	mux.Handle("GET /registry/status", api(s.status))
	mux.Handle("GET /registry/disk", api(s.disk))
	mux.Handle("GET /registry/vm", api(s.listTemplatesV1, "id"))
	mux.Handle("GET /registry/v2/vm", api(s.listTemplates, "id"))
	mux.Handle("DELETE /registry/vm", api(s.deleteTemplate, target...))
	mux.Handle("GET /registry/vm/info", api(s.vmInfo, target...))
	mux.Handle("PUT /registry/vm/arch", api(s.setArch))
	mux.Handle("DELETE /registry/revert", s.untilDelivered(api(s.revert, target...)))
	mux.Handle("GET /registry/v1/changes", api(s.changes, "since", "wait"))
	mux.Handle("GET /registry/v1/replication", api(s.replicationState))
	mux.Handle("GET /registry/v1/cluster", api(s.cluster))
	mux.Handle("GET /registry/v1/copies", api(s.copies))
	mux.Handle("GET /registry/v1/repositories", api(s.repositories))
	mux.Handle("GET /registry/v1/repository", api(s.repository, "name"))
	s.fileRoutes(mux)
	mux.HandleFunc("GET /{$}", welcome)
	mux.Handle("/", s.api.NoSuchCall(mux, func(w http.ResponseWriter, r *http.Request) {
		s.api.WriteError(w, r, &wire.Error{Code: http.StatusNotFound, Message: "Not found"})
	}))
	protected := wire.CleanPath(mux)

	var all http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/") {
			s.serveOCI(w, r)
			return
		}
		protected.ServeHTTP(w, r)
	})
	for _, h := range s.around {
		all = h(all)
	}
	if s.cfg.Authorize != nil {
		all = s.cfg.Authorize(all)
	}
	all = s.observe(s.health(all))
	return wire.WithRequestID(wire.Recover(s.log, wire.Ranges(all)))
}

// welcome is for whoever opens the address in a browser.
func welcome(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintf(w, "%s\n\nVM templates: /registry/v2/vm, OCI distribution: /v2/, health: /readyz\n", buildinfo.Line("anka-registry"))
}

// health answers the probes, which need no authentication.
func (s *Server) health(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/livez":
			_, _ = w.Write([]byte("ok\n"))
		case "/readyz":
			s.readyz(w)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *Server) readyz(w http.ResponseWriter) {
	if s.draining() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	if _, err := s.store.Repositories(); err != nil {
		http.Error(w, "the storage cannot be read", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
