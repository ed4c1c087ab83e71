// Package oci is the distribution API as data: what a path asks for, and what a
// manifest refers to. Server, replication, the balancing proxy and the clients
// read both here, so that they cannot differ.
package oci

import "strings"

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
	if !ok {
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
