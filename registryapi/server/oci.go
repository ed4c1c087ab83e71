package server

import (
	"fmt"
	"net/http"

	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/oci"
)

var errUnsupported = oci.NewError(http.StatusMethodNotAllowed, oci.CodeUnsupported, "the operation is unsupported")

// ociRoute is a call of the distribution API. Its paths have names with slashes in
// the middle, which no pattern of http.ServeMux describes.
type ociRoute struct {
	kind   oci.Kind
	method string
	need   access.Permission
	handle func(http.ResponseWriter, *http.Request, oci.Request) error
}

// ociRoutes is the distribution API.
func (s *Server) ociRoutes() []ociRoute {
	return []ociRoute{
		{oci.Base, "GET", access.Authenticated, s.ociBase},
		{oci.Base, "HEAD", access.Authenticated, s.ociBase},
		{oci.Catalog, "GET", access.RegistryListVMs, s.ociCatalog},
		{oci.Tags, "GET", access.RegistryListVMs, s.ociTags},
		{oci.Manifest, "GET", access.RegistryPullVM, s.getManifest},
		{oci.Manifest, "HEAD", access.RegistryPullVM, s.getManifest},
		{oci.Manifest, "PUT", access.RegistryPushVM, s.putManifest},
		{oci.Manifest, "DELETE", access.RegistryDeleteVM, s.deleteManifest},
		{oci.Blob, "GET", access.RegistryDownloadVM, s.getBlob},
		{oci.Blob, "HEAD", access.RegistryDownloadVM, s.getBlob},
		{oci.Blob, "DELETE", access.RegistryDeleteVM, s.deleteBlob},
		{oci.Uploads, "POST", access.RegistryPushVM, s.startUpload},
		{oci.Upload, "GET", access.RegistryPushVM, s.uploadStatus},
		{oci.Upload, "HEAD", access.RegistryPushVM, s.uploadStatus},
		{oci.Upload, "PATCH", access.RegistryPushVM, s.patchUpload},
		{oci.Upload, "PUT", access.RegistryPushVM, s.closeUpload},
		{oci.Upload, "DELETE", access.RegistryPushVM, s.cancelUpload},
		{oci.Referrers, "GET", access.RegistryPullVM, s.ociReferrers},
	}
}

type ociCall struct {
	kind   oci.Kind
	method string
}

// serveOCI serves the distribution API to callers that have a route's permission.
// What is no route needs a good credential. Like wire's Mux it panics on a route
// without a permission.
func (s *Server) serveOCI(routes []ociRoute) http.Handler {
	table := make(map[ociCall]ociRoute, len(routes))
	for _, route := range routes {
		if !route.need.Known() || route.handle == nil {
			panic(fmt.Sprintf("registry: route %s %v is incomplete", route.method, route.kind))
		}
		table[ociCall{route.kind, route.method}] = route
	}
	// What stands around may hand on another path than it was given.
	handle := s.surround(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := dispatchOCI(table, w, r); err != nil {
			s.writeOCIError(w, r, err)
		}
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
		need := access.Authenticated
		if route, ok := table[ociCall{oci.Of(r).Kind, r.Method}]; ok {
			need = route.need
		}
		admitted, err := s.api.Guard.Admit(r, need)
		if err != nil {
			s.refuseOCI(w, r, err)
			return
		}
		handle.ServeHTTP(w, admitted)
	})
}

func dispatchOCI(table map[ociCall]ociRoute, w http.ResponseWriter, r *http.Request) error {
	req := oci.Of(r)
	switch req.Kind {
	case oci.Unknown:
		return oci.NewError(http.StatusNotFound, oci.CodeNameUnknown, "no such path in the distribution API")
	case oci.Base, oci.Catalog:
	default:
		if err := oci.CheckRepository(req.Repo); err != nil {
			return err
		}
	}
	route, ok := table[ociCall{req.Kind, r.Method}]
	if !ok {
		return errUnsupported
	}
	return route.handle(w, r, req)
}

func (s *Server) ociBase(w http.ResponseWriter, r *http.Request, _ oci.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}"))
	return nil
}
