package oci

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A repository's name may have the words of the API as components.
func TestStepOfRepositoriesNamedLikeTheAPI(t *testing.T) {
	t.Parallel()
	type step struct {
		repo        string
		write, blob bool
	}
	for _, tt := range []struct {
		method, path string
		want         step
	}{
		{"GET", "/v2/a/manifests/v1", step{"a", false, false}},
		{"PUT", "/v2/a/manifests/v1", step{"a", true, false}},
		{"HEAD", "/v2/a/blobs/manifests/v1", step{"a/blobs", false, false}},
		{"GET", "/v2/a/blobs/sha/manifests/v1", step{"a/blobs/sha", false, false}},
		{"GET", "/v2/a/manifests/blobs/sha256:1", step{"a/manifests", false, true}},
		{"HEAD", "/v2/a/blobs/sha256:1", step{"a", true, true}},
		{"POST", "/v2/a/blobs/uploads/", step{"a", true, true}},
		{"POST", "/v2/a/blobs/uploads", step{"a", true, true}},
		{"POST", "/v2/a/manifests/b/blobs/uploads/", step{"a/manifests/b", true, true}},
		{"PATCH", "/v2/a/blobs/blobs/uploads/7", step{"a/blobs", true, true}},
		{"GET", "/v2/a/tags/list", step{}},
		{"GET", "/v2/", step{}},
		{"GET", "/v2/blobs", step{}},
		{"GET", "/api/v1/vm", step{}},
	} {
		var got step
		if got.repo, got.write, got.blob = Step(httptest.NewRequest(tt.method, tt.path, http.NoBody)); got != tt.want {
			t.Errorf("%s %s: got %+v, want %+v", tt.method, tt.path, got, tt.want)
		}
	}
}
