package replication

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// ReadThrough answers what is not here yet from a source. A blob is stored while
// it streams to the client, and its next reader finds it here.
func (r *Replicator) ReadThrough(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked := oci.Of(req)
		served := false
		switch {
		case req.Method != http.MethodGet && req.Method != http.MethodHead, oci.CheckRepository(asked.Repo) != nil:
		case asked.Kind == oci.Manifest:
			served = !r.hasManifest(asked.Repo, asked.Ref) && r.throughManifest(w, req, asked.Repo, asked.Ref)
		case asked.Kind == oci.Blob:
			if d, err := oci.ParseDigest(asked.Ref); err == nil {
				_, err := r.store.StatBlob(asked.Repo, d)
				served = err != nil && r.Serve(w, req, asked.Repo, d, r.clients())
			}
		}
		if !served {
			next.ServeHTTP(w, req)
		}
	})
}

func (r *Replicator) hasManifest(repo, ref string) bool {
	if d, err := oci.ParseDigest(ref); err == nil {
		return r.complete(repo, d)
	}
	t, err := content.Resolve(r.store, repo, ref)
	return err == nil && r.complete(repo, t.Digest)
}

// askTimeout bounds how long a client waits for a source that may be down
// before it is told that there is no such thing here.
const askTimeout = 5 * time.Second

func (r *Replicator) throughManifest(w http.ResponseWriter, req *http.Request, repo, ref string) bool {
	for _, s := range r.sources {
		ctx, cancel := context.WithTimeout(req.Context(), askTimeout)
		m, err := s.blobs.Manifest(ctx, repo, ref)
		cancel()
		if err != nil {
			continue
		}
		r.queue.mark(repo, time.Now(), s)
		h := w.Header()
		h.Set("Content-Type", m.MediaType)
		h.Set("Docker-Content-Digest", m.Digest.String())
		h.Set("Content-Length", strconv.Itoa(len(m.Raw)))
		w.WriteHeader(http.StatusOK)
		if req.Method == http.MethodGet {
			_, _ = w.Write(m.Raw) // the client went away; there is nobody to tell
		}
		return true
	}
	return false
}
