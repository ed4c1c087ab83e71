package oci

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"
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
		"/v2x/a/manifests/v1":                {},
	} {
		if got := Parse(path); got != want {
			t.Errorf("%s: got %+v, want %+v", path, got, want)
		}
	}
}

// What Path writes, Parse reads, for all names that the grammar allows.
func TestPathsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	word := rapid.SampledFrom([]string{"a", "blobs", "uploads", "manifests", "tags", "list", "referrers", "v2", "0_x"})
	rapid.Check(t, func(t *rapid.T) {
		q := Request{Kind: Kind(rapid.IntRange(int(Base), int(Referrers)).Draw(t, "kind"))}
		if q.Kind > Catalog {
			q.Repo = strings.Join(rapid.SliceOfN(word, 1, 5).Draw(t, "repo"), "/")
		}
		switch q.Kind {
		case Manifest:
			q.Ref = rapid.OneOf(word, rapid.StringMatching(`[a-zA-Z0-9_][a-zA-Z0-9._+:-]{0,20}`)).Draw(t, "tag")
		case Blob, Referrers:
			q.Ref = digest.FromString(rapid.String().Draw(t, "content")).String()
		case Upload:
			q.Ref = rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}(~[0-9a-f]+)?`).Draw(t, "id")
		}
		u, err := url.Parse("http://registry" + q.Path())
		if err != nil {
			t.Fatal(err)
		}
		if got := Parse(u.Path); got != q {
			t.Fatalf("%s: got %+v, want %+v", u.Path, got, q)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, path := range []string{"/v2/", "/v2/a/blobs/uploads/7", "/v2/blobs/manifests/v1", "/v2/a//manifests/%2f", "/v2/a/tags/list"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		q := Parse(path)
		if q.Kind == Unknown {
			if q != (Request{}) || q.Path() != "" {
				t.Errorf("%q: an unknown request is %+v", path, q)
			}
			return
		}
		if q.Kind > Catalog && q.Repo == "" || CheckDigest(digest.Digest(q.Ref)) != nil && q.Kind == Blob || strings.ContainsAny(q.Repo, "%?#") {
			return // such a request is refused, and its path is never written
		}
		u, err := url.Parse("http://registry" + q.Path())
		if err != nil {
			return
		}
		if got := Parse(u.Path); got != q {
			t.Errorf("%q: read as %+v, written as %q, read as %+v", path, q, u.Path, got)
		}
	})
}

func TestAPathIsReadOnce(t *testing.T) {
	t.Parallel()
	var got []Request
	h := Reading(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, Of(r))
		r.URL.Path = "/v2/b/tags/list" // as a handler in between may do
		got = append(got, Of(r))
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/a/manifests/v1", nil))
	if want := []Request{{Manifest, "a", "v1"}, {Tags, "b", ""}}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
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
