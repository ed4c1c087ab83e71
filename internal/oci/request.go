// Package oci is the distribution API as data: paths, names, ranges, errors, and
// what a manifest refers to. Server, replication, the balancing proxy of a node and
// the clients read and write them here, so that they cannot differ.
package oci

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Kind is what a path below /v2/ is about.
type Kind int

const (
	Unknown   Kind = iota
	Base           // /v2/
	Catalog        // /v2/_catalog
	Tags           // /v2/<repo>/tags/list
	Manifest       // /v2/<repo>/manifests/<tag or digest>
	Blob           // /v2/<repo>/blobs/<digest>
	Uploads        // /v2/<repo>/blobs/uploads/
	Upload         // /v2/<repo>/blobs/uploads/<id>
	Referrers      // /v2/<repo>/referrers/<digest>
)

// Request is a parsed path. Repo and Ref are not checked.
type Request struct {
	Kind Kind
	Repo string
	Ref  string // tag, digest or upload id
}

// Parse reads a path, without its query. Names of repositories have slashes, and
// may have components such as "blobs" and "manifests", so the path is read from
// its end.
func Parse(path string) Request {
	rest, ok := strings.CutPrefix(path, "/v2")
	if !ok || rest != "" && rest[0] != '/' {
		return Request{}
	}
	rest = strings.TrimPrefix(rest, "/")
	switch rest {
	case "":
		return Request{Kind: Base}
	case "_catalog":
		return Request{Kind: Catalog}
	}
	if repo, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return Request{Tags, repo, ""}
	}
	if repo, ok := strings.CutSuffix(strings.TrimSuffix(rest, "/"), "/blobs/uploads"); ok {
		return Request{Uploads, repo, ""}
	}
	slash := strings.LastIndexByte(rest, '/')
	if slash < 0 {
		return Request{}
	}
	head, ref := rest[:slash], rest[slash+1:]
	for _, p := range []struct {
		suffix string
		kind   Kind
	}{
		{"/blobs/uploads", Upload}, {"/blobs", Blob}, {"/manifests", Manifest}, {"/referrers", Referrers},
	} {
		if repo, ok := strings.CutSuffix(head, p.suffix); ok && repo != "" && ref != "" {
			return Request{p.kind, repo, ref}
		}
	}
	return Request{}
}

// Path returns the path that asks for q, with what a reference of another registry
// may hold escaped. It is "" for an unknown request.
func (q Request) Path() string {
	below := "/v2/" + q.Repo
	ref := url.PathEscape(q.Ref)
	switch q.Kind {
	case Base:
		return "/v2/"
	case Catalog:
		return "/v2/_catalog"
	case Tags:
		return below + "/tags/list"
	case Manifest:
		return below + "/manifests/" + ref
	case Blob:
		return below + "/blobs/" + ref
	case Uploads:
		return below + "/blobs/uploads/"
	case Upload:
		return below + "/blobs/uploads/" + ref
	case Referrers:
		return below + "/referrers/" + ref
	}
	return ""
}

// BlobPath returns the path of a blob.
func BlobPath(repo string, d digest.Digest) string { return Request{Blob, repo, d.String()}.Path() }

// ManifestPath returns the path of the manifest of a tag or digest.
func ManifestPath(repo, ref string) string { return Request{Manifest, repo, ref}.Path() }

// UploadsPath returns the path at which uploads begin.
func UploadsPath(repo string) string { return Request{Uploads, repo, ""}.Path() }

// UploadPath returns the path of an upload.
func UploadPath(repo, id string) string { return Request{Upload, repo, id}.Path() }

// read is what Reading has read.
type read struct {
	path    string
	request Request
}

type readKey struct{}

// Reading returns a handler that reads the path of each request once, for Of in all
// handlers behind it.
func Reading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked := Parse(r.URL.Path); asked.Kind != Unknown {
			r = r.WithContext(context.WithValue(r.Context(), readKey{}, &read{r.URL.Path, asked}))
		}
		next.ServeHTTP(w, r)
	})
}

// Of returns what a request asks for: as it was read, unless a handler in between
// has given the request another path.
func Of(r *http.Request) Request {
	if was, ok := r.Context().Value(readKey{}).(*read); ok && was.path == r.URL.Path {
		return was.request
	}
	return Parse(r.URL.Path)
}

// Step returns the repository whose push a request may be part of, "" for none;
// whether it is part of one, or of deciding what to push; and whether it may carry
// a blob. It is what a balancing proxy has to know.
func Step(r *http.Request) (repo string, write, blob bool) {
	asked := Of(r)
	reading := r.Method == http.MethodGet
	switch asked.Kind {
	case Manifest:
		return asked.Repo, !reading && r.Method != http.MethodHead, false
	case Blob:
		return asked.Repo, !reading, true // a HEAD asks whether it has to be pushed
	case Uploads, Upload:
		return asked.Repo, true, true
	}
	return "", false, false
}
