package server

import (
	"strings"
)

// What a path below /v2/ is about.
type ociKind int

const (
	kindUnknown   ociKind = iota
	kindBase              // /v2/
	kindCatalog           // /v2/_catalog
	kindTags              // /v2/<repo>/tags/list
	kindManifest          // /v2/<repo>/manifests/<tag or digest>
	kindBlob              // /v2/<repo>/blobs/<digest>
	kindUploads           // /v2/<repo>/blobs/uploads/
	kindUpload            // /v2/<repo>/blobs/uploads/<id>
	kindReferrers         // /v2/<repo>/referrers/<digest>
)

// ociRequest is a parsed path. repo and ref are not checked.
type ociRequest struct {
	kind ociKind
	repo string
	ref  string // tag, digest or upload id
}

// parseOCI reads a path. Repository names have slashes, so the path is read
// from its end.
func parseOCI(path string) ociRequest {
	rest, ok := strings.CutPrefix(path, "/v2")
	if !ok {
		return ociRequest{}
	}
	rest = strings.TrimPrefix(rest, "/")
	switch rest {
	case "":
		return ociRequest{kind: kindBase}
	case "_catalog":
		return ociRequest{kind: kindCatalog}
	}
	if repo, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return ociRequest{kindTags, repo, ""}
	}
	if repo, ok := strings.CutSuffix(strings.TrimSuffix(rest, "/"), "/blobs/uploads"); ok {
		return ociRequest{kindUploads, repo, ""}
	}
	slash := strings.LastIndexByte(rest, '/')
	if slash < 0 {
		return ociRequest{}
	}
	head, ref := rest[:slash], rest[slash+1:]
	for _, p := range []struct {
		suffix string
		kind   ociKind
	}{
		{"/blobs/uploads", kindUpload}, {"/blobs", kindBlob}, {"/manifests", kindManifest}, {"/referrers", kindReferrers},
	} {
		if repo, ok := strings.CutSuffix(head, p.suffix); ok {
			return ociRequest{p.kind, repo, ref}
		}
	}
	return ociRequest{}
}
