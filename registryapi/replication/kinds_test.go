package replication

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// A replica has all that its source has of a manifest, whatever kind that is, and
// does without what the source accepted it without.
func TestManifestsOfEveryKindAreReplicated(t *testing.T) {
	t.Parallel()
	push := start(t, options{})
	src := push.store
	blob := func(content string) digest.Digest {
		d := digest.FromString(content)
		u, err := src.NewUpload("kinds", d.Algorithm())
		if err == nil {
			_, err = u.Append(bytes.NewReader([]byte(content)))
		}
		if err == nil {
			err = u.Commit(d)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	config := blob("{}")
	image := func(layerType string, d digest.Digest, n int) string {
		return fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`, config, layerType, d, n)
	}
	const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	wanted := make(map[string]digest.Digest)
	put := func(tag, mediaType, raw string) content.Manifest {
		m := content.Manifest{Digest: digest.FromString(raw), MediaType: mediaType, Raw: []byte(raw)}
		var tags []string
		if tag != "" {
			tags = append(tags, tag)
		}
		if err := src.PutManifest("kinds", m, tags...); err != nil {
			t.Fatalf("%s: %v", tag, err)
		}
		return m
	}
	keep := func(tag string) digest.Digest { wanted[tag] = blob("content of " + tag); return wanted[tag] }
	size := func(tag string) int { return len("content of " + tag) }

	put("artifact", oci.MediaTypeArtifactManifest, fmt.Sprintf(`{"mediaType":%q,"blobs":[{"mediaType":"x","digest":%q,"size":%d}]}`, oci.MediaTypeArtifactManifest, keep("artifact"), size("artifact")))
	put("schema1", "application/vnd.docker.distribution.manifest.v1+json", fmt.Sprintf(`{"schemaVersion":1,"fsLayers":[{"blobSum":%q}]}`, keep("schema1")))
	put("unknown", "application/vnd.example+json", fmt.Sprintf(`{"disk":{"at":%q},"absent":%q}`, keep("unknown"), digest.FromString("absent")))
	put("foreign", ispec.MediaTypeImageManifest, image(foreign, keep("foreign"), size("foreign")))
	put("elsewhere", ispec.MediaTypeImageManifest, image(foreign, digest.FromString("not pushed"), 10))
	child := put("", ispec.MediaTypeImageManifest, image("l", keep("child"), size("child")))
	put("unknown-index", "application/vnd.example+json", fmt.Sprintf(`{"children":[%q]}`, child.Digest))

	replica := start(t, options{sources: []string{push.url}})
	converge(t, push, replica)
	have := replica.store
	for tag, d := range wanted {
		if f, n, err := have.OpenBlob("kinds", d); err != nil {
			t.Errorf("%s: %v", tag, err)
		} else if f.Close(); int(n) != size(tag) {
			t.Errorf("%s: %d bytes, want %d", tag, n, size(tag))
		}
	}
	if _, err := have.Manifest("kinds", child.Digest); err != nil {
		t.Errorf("manifest in an unknown index: %v", err)
	}
}
