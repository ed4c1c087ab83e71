package cluster

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
)

// Around answers what is for all hosts together before next, which serves this
// host's directory.
func (c *Cluster) Around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := oci.Of(r)
		fromPeer := r.Header.Get(registryapi.HeaderPeer) != ""
		reading := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case asked.Kind == oci.Manifest && fromPeer && !reading:
			deny(w, http.StatusForbidden, oci.CodeDenied, "hosts do not write each other's manifests")
			return
		case asked.Kind == oci.Upload:
			if store, id, ok := splitUpload(asked.Ref); ok && store != c.self {
				c.forward(w, r, store)
				return
			} else if ok {
				r = withPath(r, strings.TrimSuffix(r.URL.Path, asked.Ref)+id)
			}
		case asked.Kind == oci.Blob && reading && fromPeer:
			if c.serveManifest(w, r, asked.Repo, asked.Ref) {
				return
			}
		case asked.Kind == oci.Blob && reading:
			if c.serveBlob(w, r, asked.Repo, asked.Ref) {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func withPath(r *http.Request, path string) *http.Request {
	r2 := new(http.Request)
	*r2 = *r
	u := *r.URL
	u.Path, u.RawPath = path, ""
	r2.URL = &u
	return r2
}

// deny answers as the distribution specification does.
func deny(w http.ResponseWriter, status int, code oci.Code, message string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	oci.NewError(status, code, message).Write(w)
}

// serveManifest gives another host a manifest as the content that it is. false
// means that this directory is to answer.
func (c *Cluster) serveManifest(w http.ResponseWriter, r *http.Request, repo, ref string) bool {
	d, err := oci.ParseDigest(ref)
	if err != nil {
		return false
	}
	if _, err := c.store.StatBlob(repo, d); err == nil {
		return false
	}
	m, err := c.store.Manifest(repo, d)
	if err != nil {
		return false
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.Raw))
	return true
}

// serveBlob answers a blob that is not here from another host, and stores it
// while it streams. false means that this directory is to answer.
func (c *Cluster) serveBlob(w http.ResponseWriter, r *http.Request, repo, ref string) bool {
	d, err := oci.ParseDigest(ref)
	if err != nil || oci.CheckRepository(repo) != nil {
		return false
	}
	if _, err := c.store.StatBlob(repo, d); err == nil {
		return false
	}
	known := false
	c.cat.read(func(v *view) { _, known = v.repos[repo].blob(d) })
	from := c.others()
	if !known { // somebody asks before a push: hosts that are down are not waited for
		from = live(from)
	}
	if len(from) > 0 && c.copier.Serve(w, r, repo, d, clientsOf(from)) {
		return true
	}
	if known {
		deny(w, http.StatusServiceUnavailable, oci.CodeUnavailable, fmt.Sprintf("no host that is up gives blob %s", d))
		return true
	}
	return false
}

// forward hands a request of an upload to the host that has it. An upload of a
// host that is gone is unknown: its client begins anew.
func (c *Cluster) forward(w http.ResponseWriter, r *http.Request, store string) {
	var to *peer
	for _, p := range live(c.others()) {
		if p.store == store {
			to = p
		}
	}
	if to == nil || r.Header.Get(registryapi.HeaderPeer) != "" {
		deny(w, http.StatusNotFound, oci.CodeBlobUploadUnknown, "the host that has this upload is not there: begin it anew")
		return
	}
	target, err := url.Parse(to.url)
	if err != nil {
		deny(w, http.StatusNotFound, oci.CodeBlobUploadUnknown, "the host that has this upload has no address")
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(pr *httputil.ProxyRequest) { pr.SetURL(target) },
		Transport: to.http.Transport,
		ErrorLog:  zap.NewStdLog(c.log),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			c.log.Debug("request of an upload not handed on", zap.String("to", to.url), zap.Error(err))
			deny(w, http.StatusServiceUnavailable, oci.CodeUnavailable, "the host that has this upload does not answer")
		},
	}
	proxy.ServeHTTP(w, r)
}
