package oci

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPathsAreReadFromTheirEnd(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]Request{
		"/v2":                                {Kind: Base},
		"/v2/":                               {Kind: Base},
		"/v2/_catalog":                       {Kind: Catalog},
		"/v2/a/tags/list":                    {Tags, "a", ""},
		"/v2/a/blobs/uploads":                {Uploads, "a", ""},
		"/v2/a/blobs/uploads/":               {Uploads, "a", ""},
		"/v2/a/blobs/uploads/7":              {Upload, "a", "7"},
		"/v2/a/blobs/sha256:1":               {Blob, "a", "sha256:1"},
		"/v2/a/manifests/v1":                 {Manifest, "a", "v1"},
		"/v2/a/referrers/sha256:1":           {Referrers, "a", "sha256:1"},
		"/v2/a/blobs/manifests/v1":           {Manifest, "a/blobs", "v1"},
		"/v2/a/blobs/sha/manifests/v1":       {Manifest, "a/blobs/sha", "v1"},
		"/v2/a/manifests/blobs/sha256:1":     {Blob, "a/manifests", "sha256:1"},
		"/v2/a/manifests/b/blobs/uploads/":   {Uploads, "a/manifests/b", ""},
		"/v2/a/blobs/blobs/uploads/7":        {Upload, "a/blobs", "7"},
		"/v2/manifests/manifests/v1":         {Manifest, "manifests", "v1"},
		"/v2/blobs/uploads/manifests/latest": {Manifest, "blobs/uploads", "latest"},
		"/v2/a/tags/list/tags/list":          {Tags, "a/tags/list", ""},
		"/v2/a":                              {},
		"/v2/a/manifests/":                   {},
		"/v2/manifests/v1":                   {},
		"/api/v1/vm":                         {},
	} {
		if got := Parse(path); got != want {
			t.Errorf("%s: got %+v, want %+v", path, got, want)
		}
	}
}

func TestWhatAManifestRefersTo(t *testing.T) {
	t.Parallel()
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	desc := func(d digest.Digest) string { return fmt.Sprintf(`{"mediaType":"x","digest":%q,"size":1}`, d) }
	for _, tt := range []struct {
		name, mediaType, raw string
		want                 []digest.Digest
	}{
		{"image", ispec.MediaTypeImageManifest, `{"config":` + desc(a) + `,"layers":[` + desc(b) + `,` + desc(b) + `],"subject":` + desc(c) + `}`, []digest.Digest{a, b}},
		{"index", ispec.MediaTypeImageIndex, `{"manifests":[` + desc(a) + `]}`, []digest.Digest{a}},
		{"annotations are for people", ispec.MediaTypeImageIndex, `{"manifests":[],"annotations":{"base":"` + a.String() + `"}}`, nil},
		{"artifact", MediaTypeArtifactManifest, `{"blobs":[` + desc(a) + `],"subject":` + desc(b) + `}`, []digest.Digest{a}},
		{"type of the manifest itself", "", `{"mediaType":"` + MediaTypeArtifactManifest + `","blobs":[` + desc(a) + `]}`, []digest.Digest{a}},
		{"unknown", "x/y", `{"p":["` + b.String() + `",{"q":"` + a.String() + `"}],"subject":` + desc(c) + `}`, []digest.Digest{a, b}},
	} {
		got, err := ReadManifest(tt.mediaType, []byte(tt.raw))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		have := make(map[digest.Digest]bool)
		for _, d := range got.References() {
			have[d] = true
		}
		if len(have) != len(tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got.References(), tt.want)
		}
		for _, d := range tt.want {
			if !have[d] {
				t.Errorf("%s: %s is missing", tt.name, d)
			}
		}
	}
	for name, bad := range map[string][2]string{
		"no JSON":                    {ispec.MediaTypeImageManifest, `x`},
		"image without config":       {ispec.MediaTypeImageManifest, `{"layers":[]}`},
		"index with config":          {ispec.MediaTypeImageIndex, `{"manifests":[],"config":` + desc(a) + `}`},
		"another type inside":        {ispec.MediaTypeImageIndex, `{"mediaType":"x"}`},
		"artifact without a digest":  {MediaTypeArtifactManifest, `{"blobs":[{"size":1}]}`},
		"schema 1 without a digest":  {mediaTypeSchema1, `{"fsLayers":[{"blobSum":"x"}]}`},
		"layers that are no array":   {MediaTypeDockerManifest, `{"config":` + desc(a) + `,"layers":"x"}`},
		"descriptor with a bad size": {ispec.MediaTypeImageManifest, `{"config":{"digest":"` + a.String() + `","size":-1}}`},
	} {
		if _, err := ReadManifest(bad[0], []byte(bad[1])); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: got %v, want ErrManifest", name, err)
		}
	}
}
