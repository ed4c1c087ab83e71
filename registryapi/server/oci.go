package server

import (
	"net/http"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/storage"
)

var errUnsupported = &ociError{http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported"}

// serveOCI is the route table of the distribution API.
func (s *Server) serveOCI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	req := oci.Parse(r.URL.Path)
	if err := s.dispatchOCI(w, r, req); err != nil {
		s.writeOCIError(w, r, err)
	}
}

func (s *Server) dispatchOCI(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	switch req.Kind {
	case oci.Unknown:
		return &ociError{http.StatusNotFound, "NAME_UNKNOWN", "no such path in the distribution API"}
	case oci.Base, oci.Catalog:
	default:
		if err := storage.CheckRepository(req.Repo); err != nil {
			return err
		}
	}
	type route struct {
		kind   oci.Kind
		method string
	}
	h, ok := map[route]func(http.ResponseWriter, *http.Request, oci.Request) error{
		{oci.Base, "GET"}:        s.ociBase,
		{oci.Base, "HEAD"}:       s.ociBase,
		{oci.Catalog, "GET"}:     s.ociCatalog,
		{oci.Tags, "GET"}:        s.ociTags,
		{oci.Manifest, "GET"}:    s.getManifest,
		{oci.Manifest, "HEAD"}:   s.getManifest,
		{oci.Manifest, "PUT"}:    s.putManifest,
		{oci.Manifest, "DELETE"}: s.deleteManifest,
		{oci.Blob, "GET"}:        s.getBlob,
		{oci.Blob, "HEAD"}:       s.getBlob,
		{oci.Blob, "DELETE"}:     s.deleteBlob,
		{oci.Uploads, "POST"}:    s.startUpload,
		{oci.Upload, "GET"}:      s.uploadStatus,
		{oci.Upload, "HEAD"}:     s.uploadStatus,
		{oci.Upload, "PATCH"}:    s.patchUpload,
		{oci.Upload, "PUT"}:      s.closeUpload,
		{oci.Upload, "DELETE"}:   s.cancelUpload,
		{oci.Referrers, "GET"}:   s.ociReferrers,
	}[route{req.Kind, r.Method}]
	if !ok {
		return errUnsupported
	}
	return h(w, r, req)
}

func (s *Server) ociBase(w http.ResponseWriter, r *http.Request, _ oci.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}"))
	return nil
}
