package fs

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// otherKinds are manifests that are accepted and are no plain images; each names
// the blob d of n bytes.
func otherKinds(d digest.Digest, n int) map[string]content.Manifest {
	config := digest.FromString("{}")
	kinds := make(map[string]content.Manifest)
	add := func(name, mediaType, format string, args ...any) {
		raw := fmt.Appendf(nil, format, args...)
		kinds[name] = content.Manifest{Digest: digest.FromBytes(raw), MediaType: mediaType, Raw: raw}
	}
	add("artifact", oci.MediaTypeArtifactManifest, `{"mediaType":%q,"artifactType":"application/x-y","blobs":[{"mediaType":"x","digest":%q,"size":%d}]}`,
		oci.MediaTypeArtifactManifest, d, n)
	add("schema 1", "application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[{"blobSum":%q}],"history":[{"v1Compatibility":"{}"}]}`, d)
	add("signed schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[{"blobSum":%q}],"signatures":[{"header":{}}]}`, d)
	add("unknown type", "application/vnd.example.vm+json", `{"disks":[{"parts":{"first":%q}}]}`, d)
	add("unknown type with fields of another shape", "application/vnd.example.vm+json", `{"layers":{"disk":%q},"config":"none"}`, d)
	add("image with a field more", ispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":2},"layers":[],"blobs":[{"digest":%q}]}`, config, d)
	add("layer that need not be pushed, and was", ispec.MediaTypeImageManifest,
		`{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":%q,"size":%d}]}`, config, d, n)
	add("layer with URLs that was pushed all the same", ispec.MediaTypeImageManifest,
		`{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":2},"layers":[{"mediaType":"l","digest":%q,"size":%d,"urls":["http://elsewhere/x"]}]}`, config, d, n)
	return kinds
}

// What is accepted is kept: the collector, deletion, export, import and sizes go
// by what a manifest of any kind refers to.
func TestContentOfEveryAcceptedManifestIsKept(t *testing.T) {
	t.Parallel()
	data := "content of another kind"
	d := digest.FromString(data)
	for name, m := range otherKinds(d, len(data)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openTest(t, t.TempDir())
			for _, blob := range []string{"{}", data} {
				if _, err := pushBlob(s, "vm", []byte(blob)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.PutManifest("vm", m, "v1"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Collect(t.Context(), content.CollectOptions{}); err != nil {
				t.Fatal(err)
			}
			check := func(s *Store) {
				t.Helper()
				f, size, err := s.OpenBlob("vm", d)
				if err != nil {
					t.Fatalf("its content: %v", err)
				}
				f.Close()
				if size != int64(len(data)) {
					t.Errorf("its content has %d bytes", size)
				}
				if err := content.Complete(s, "vm", m); err != nil {
					t.Error(err)
				}
			}
			check(s)
			if err := s.DeleteBlob("vm", d); !errors.Is(err, content.ErrInUse) {
				t.Errorf("delete of its content: got %v, want ErrInUse", err)
			}
			c, err := content.ParseManifest(m.MediaType, m.Raw)
			if err != nil {
				t.Fatal(err)
			}
			sizes := make(map[digest.Digest]int64)
			if content.Sizes(s, "vm", c, sizes); sizes[d] != int64(len(data)) {
				t.Errorf("sizes: got %v", sizes)
			}
			dir := t.TempDir()
			if _, err := content.Export(t.Context(), s, "vm", dir, content.LayoutOptions{}); err != nil {
				t.Fatal(err)
			}
			other := openTest(t, t.TempDir())
			if _, err := content.Import(t.Context(), other, dir, "vm", content.LayoutOptions{}); err != nil {
				t.Fatal(err)
			}
			check(other)
		})
	}
}

// What a known kind must have is asked for at the push, and missed by Complete.
func TestIncompleteManifestOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	kinds := otherKinds(digest.FromString("never pushed"), 12)
	for _, name := range []string{"artifact", "schema 1", "signed schema 1"} {
		if err := s.PutManifest("vm", kinds[name], "v1"); !errors.Is(err, content.ErrBlobMissing) {
			t.Errorf("%s: got %v, want ErrBlobMissing", name, err)
		}
		if err := content.Complete(s, "vm", kinds[name]); !errors.Is(err, content.ErrManifestUnknown) {
			t.Errorf("%s: got %v, want ErrManifestUnknown", name, err)
		}
	}
}

// An index is complete when what it names is.
func TestIndexIsNoMoreCompleteThanItsManifests(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	child := mustPush(t, s, "vm", "", "layer")
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, child.MediaType, child.Digest, len(child.Raw))
	index := content.Manifest{Digest: digest.FromBytes(raw), MediaType: ispec.MediaTypeImageIndex, Raw: raw}
	if err := s.PutManifest("vm", index, "v1"); err != nil {
		t.Fatal(err)
	}
	if err := content.Complete(s, "vm", index); err != nil {
		t.Fatal(err)
	}
	if _, err := remove(s.linkPath("vm", digest.FromString("layer"))); err != nil {
		t.Fatal(err)
	}
	if err := content.Complete(s, "vm", index); !errors.Is(err, content.ErrManifestUnknown) {
		t.Errorf("got %v, want ErrManifestUnknown", err)
	}
	v, err := s.Verify(t.Context(), VerifyOptions{})
	if err != nil || len(v.Damage) != 1 || v.Damage[0].Tag != "v1" {
		t.Errorf("verify: got %+v, %v", v.Damage, err)
	}
}
