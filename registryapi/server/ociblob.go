package server

import (
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/registryapi/storage"
)

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request, req ociRequest) error {
	d, err := storage.ParseDigest(req.ref)
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		// A client that asks may rely on the answer in a manifest to come.
		if _, err := s.store.StatBlob(req.repo, d); err != nil {
			return err
		}
	}
	f, _, err := s.store.OpenBlob(req.repo, d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream") // also keeps net/http from sniffing, which would end sendfile
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", `"`+d.String()+`"`)
	h.Set("Cache-Control", "max-age=31536000, immutable")
	http.ServeContent(s.paced(w), r, "", time.Time{}, f)
	return nil
}

func (s *Server) deleteBlob(w http.ResponseWriter, r *http.Request, req ociRequest) error {
	d, err := storage.ParseDigest(req.ref)
	if err != nil {
		return err
	}
	if err := s.store.DeleteBlob(req.repo, d); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
