package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// router answers the calls of both tables, and what is in none of them.
func (s *Server) router(routes []wire.Route, ociRoutes []ociRoute) http.Handler {
	for i, r := range routes {
		if r.Permission != access.Public {
			routes[i].Handler = s.surround(r.Handler)
		}
	}
	mux := s.api.Mux(routes)
	mux.Handle("/", s.api.Protect(access.Authenticated, s.surround(s.api.NoSuchCall(mux, func(w http.ResponseWriter, r *http.Request) {
		s.api.WriteError(w, r, &wire.Error{Status: http.StatusNotFound, Message: "Not found"})
	}))))
	rest, distribution := wire.CleanPath(mux), s.serveOCI(ociRoutes)
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/") {
			distribution.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
	return wire.WithRequestID(wire.Recover(s.log, s.cfg.Browsers.Guard(wire.Ranges(oci.Reading(s.observe(all))))))
}

// surround puts what was given to Use around a handler.
func (s *Server) surround(h http.Handler) http.Handler {
	for _, around := range s.around {
		h = around(h)
	}
	return h
}

// routes is the REST API; ociRoutes is the distribution API.
func (s *Server) routes() []wire.Route {
	// The words behind a handler are the parameters that its call takes.
	api := func(pattern string, need access.Permission, h wire.HandlerFunc, takes ...string) wire.Route {
		return wire.Route{Pattern: pattern, Permission: need, Handler: s.api.Handle(wire.Taking(h, takes...))}
	}
	plain := func(pattern string, need access.Permission, h http.HandlerFunc) wire.Route {
		return wire.Route{Pattern: pattern, Permission: need, Handler: h}
	}
	target := []string{"id", "tag", "version", "number"}
	return append([]wire.Route{
		plain("/livez", access.Public, livez),
		plain("/readyz", access.Public, s.readyz),
		plain("GET /{$}", access.RegistryIndex, welcome),

		api("GET /registry/status", access.Authenticated, s.status),
		api("GET /registry/disk", access.RegistryDiskInfo, s.disk),
		api("GET /registry/vm", access.RegistryListVMs, s.listTemplatesV1, "id"),
		api("GET /registry/v2/vm", access.RegistryListVMs, s.listTemplates, "id"),
		api("DELETE /registry/vm", access.RegistryDeleteVM, s.deleteTemplate, target...),
		api("GET /registry/vm/info", access.RegistryListVMs, s.vmInfo, target...),
		api("PUT /registry/vm/arch", access.RegistryPushVM, s.setArch),
		{Pattern: "DELETE /registry/revert", Permission: access.RegistryRevert, Handler: s.untilDelivered(s.api.Handle(wire.Taking(s.revert, target...)))},

		// Other registries, and people who look after them.
		api("GET /registry/v1/changes", access.Registry, s.changes, "since", "wait"),
		api("GET /registry/v1/repositories", access.Registry, s.repositories),
		api("GET /registry/v1/repository", access.Registry, s.repository, "name"),
		api("GET /registry/v1/replication", access.Registry, s.replicationState),
		api("GET /registry/v1/cluster", access.Authenticated, s.cluster),
		api("GET /registry/v1/copies", access.RegistryListVMs, s.copies),

		// Files and logs. Their transfer is not documented by the original; these
		// calls are ours.
		api("GET /registry/files", access.RegistryDownloadFile, s.listFiles),
		api("PUT /registry/files/{name...}", access.RegistryUploadFile, s.uploadFile),
		plain("GET /registry/files/{name...}", access.RegistryDownloadFile, s.downloadFile),
		api("GET /registry/logs", access.RegistryStreamLog, s.listLogs),
		api("POST /registry/logs/{name...}", access.RegistrySendLog, s.sendLog),
		plain("GET /registry/logs/{name...}", access.RegistryStreamLog, s.readLog),
		plain("GET /registry/log-archive", access.RegistryLogArchive, s.logArchive),
		api("POST /registry/log-event", access.RegistrySendLogEvent, s.sendEvent),
	}, s.beside...)
}

// welcome is for whoever opens the address in a browser.
func welcome(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintf(w, "%s\n\nVM templates: /registry/v2/vm, OCI distribution: /v2/, health: /readyz\n", buildinfo.Line("anka-registry"))
}

func livez(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
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
