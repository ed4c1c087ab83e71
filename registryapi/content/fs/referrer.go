package fs

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

func (s *Store) referrerPath(repo string, subject, d digest.Digest) string {
	return s.repoPath(repo, "referrers", digestPath(subject), digestPath(d))
}

// Referrers implements content.Manifests.
func (s *Store) Referrers(repo string, d digest.Digest, artifactType string) ([]ispec.Descriptor, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return nil, err
	}
	digests, err := s.digestsBelow(s.repoPath(repo, "referrers", digestPath(d)))
	if err != nil {
		return nil, err
	}
	found := make([]ispec.Descriptor, 0, len(digests))
	for _, ref := range digests {
		m, err := s.Manifest(repo, ref)
		if err != nil {
			continue // deleted meanwhile
		}
		c, err := content.ParseManifest(m.MediaType, m.Raw)
		if err != nil {
			continue
		}
		desc := content.Referrer(m, c)
		if artifactType == "" || artifactType == desc.ArtifactType {
			found = append(found, desc)
		}
	}
	slices.SortFunc(found, func(a, b ispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return found, nil
}
