package server

import (
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	d, err := oci.ParseDigest(req.Ref)
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		// A client that asks may rely on the answer in a manifest to come.
		if _, err := s.store.StatBlob(req.Repo, d); err != nil {
			return err
		}
	}
	f, size, err := s.store.OpenBlob(req.Repo, d)
	if err != nil {
		return err
	}
	defer f.Close()
	if oci.EmptyRange(r.Header.Get("Range"), size) {
		w.Header().Set("Content-Range", oci.NoRange(size))
		return oci.NewError(http.StatusRequestedRangeNotSatisfiable, oci.CodeSizeInvalid, "the range holds no byte")
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream") // also keeps net/http from sniffing, which would end sendfile
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", `"`+d.String()+`"`)
	h.Set("Cache-Control", "max-age=31536000, immutable")
	http.ServeContent(s.paced(w), r, "", time.Time{}, f)
	return nil
}

func (s *Server) deleteBlob(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	d, err := oci.ParseDigest(req.Ref)
	if err != nil {
		return err
	}
	return s.deleteOnce(w, r, req, func(n content.Note) error { return s.names(r).DeleteBlob(r.Context(), req.Repo, d, n) })
}
