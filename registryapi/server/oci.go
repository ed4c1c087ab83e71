package server

import (
	"net/http"

	"github.com/ankacluster/ankacluster/registryapi/storage"
)

var errUnsupported = &ociError{http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported"}

// serveOCI is the route table of the distribution API.
func (s *Server) serveOCI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	req := parseOCI(r.URL.Path)
	if err := s.dispatchOCI(w, r, req); err != nil {
		s.writeOCIError(w, r, err)
	}
}

func (s *Server) dispatchOCI(w http.ResponseWriter, r *http.Request, req ociRequest) error {
	switch req.kind {
	case kindUnknown:
		return &ociError{http.StatusNotFound, "NAME_UNKNOWN", "no such path in the distribution API"}
	case kindBase, kindCatalog:
	default:
		if err := storage.CheckRepository(req.repo); err != nil {
			return err
		}
	}
	type route struct {
		kind   ociKind
		method string
	}
	h, ok := map[route]func(http.ResponseWriter, *http.Request, ociRequest) error{
		{kindBase, "GET"}:        s.ociBase,
		{kindBase, "HEAD"}:       s.ociBase,
		{kindCatalog, "GET"}:     s.ociCatalog,
		{kindTags, "GET"}:        s.ociTags,
		{kindManifest, "GET"}:    s.getManifest,
		{kindManifest, "HEAD"}:   s.getManifest,
		{kindManifest, "PUT"}:    s.putManifest,
		{kindManifest, "DELETE"}: s.deleteManifest,
		{kindBlob, "GET"}:        s.getBlob,
		{kindBlob, "HEAD"}:       s.getBlob,
		{kindBlob, "DELETE"}:     s.deleteBlob,
		{kindUploads, "POST"}:    s.startUpload,
		{kindUpload, "GET"}:      s.uploadStatus,
		{kindUpload, "HEAD"}:     s.uploadStatus,
		{kindUpload, "PATCH"}:    s.patchUpload,
		{kindUpload, "PUT"}:      s.closeUpload,
		{kindUpload, "DELETE"}:   s.cancelUpload,
		{kindReferrers, "GET"}:   s.ociReferrers,
	}[route{req.kind, r.Method}]
	if !ok {
		return errUnsupported
	}
	return h(w, r, req)
}

func (s *Server) ociBase(w http.ResponseWriter, r *http.Request, _ ociRequest) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}"))
	return nil
}
