package content

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
)

// MaxManifest is the largest manifest in bytes, as the specification suggests.
const MaxManifest = 4 << 20

// Content is what a manifest says and refers to.
type Content = oci.Content

// ParseManifest reads a manifest, or returns ErrManifestInvalid.
func ParseManifest(mediaType string, raw []byte) (Content, error) {
	return oci.ReadManifest(mediaType, raw)
}

// Reader is what says whether a manifest has all it names.
type Reader interface {
	Blobs
	Manifests
}

// CheckPut returns what a manifest that is to be stored under these tags says, or
// ErrNameInvalid, ErrTagInvalid, ErrDigestMismatch or ErrManifestInvalid.
func CheckPut(repo string, m Manifest, tags []string) (Content, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return Content{}, err
	}
	for _, tag := range tags {
		if err := oci.CheckTag(tag); err != nil {
			return Content{}, err
		}
	}
	if m.Digest.Algorithm().FromBytes(m.Raw) != m.Digest {
		return Content{}, fmt.Errorf("%w: manifest is not %s", ErrDigestMismatch, m.Digest)
	}
	return ParseManifest(m.MediaType, m.Raw)
}

// CheckNamed returns ErrBlobMissing unless the repository has all that a manifest
// names, and ErrManifestInvalid where a size is another. It keeps it from the
// collector. The subject need not exist.
func CheckNamed(s Reader, repo string, c Content) error {
	for _, d := range c.Optional {
		_, _ = s.StatBlob(repo, d.Digest) // keeps it if it is there
	}
	for _, d := range c.Blobs() {
		size, err := s.StatBlob(repo, d.Digest)
		if errors.Is(err, ErrBlobUnknown) {
			return fmt.Errorf("%w: %s", ErrBlobMissing, d.Digest)
		}
		if err != nil {
			return err
		}
		if d.Size >= 0 && size != d.Size {
			return fmt.Errorf("%w: blob %s has %d bytes, not %d", ErrManifestInvalid, d.Digest, size, d.Size)
		}
	}
	for _, d := range c.Manifests {
		if !hasManifest(s, repo, d.Digest) {
			return fmt.Errorf("%w: manifest %s", ErrBlobMissing, d.Digest)
		}
	}
	left := mostOfTree
	return checkTree(s, repo, c, make(map[digest.Digest]bool), MaxNesting, &left)
}

// MaxNesting is how deep manifests may be in one another, and mostOfTree how much a
// manifest may refer to through others: all of it is looked at when it is asked for.
const (
	MaxNesting = 8
	mostOfTree = 10_000
)

// checkTree returns ErrManifestInvalid for manifests that are too deep in one another,
// or too many.
func checkTree(s Manifests, repo string, c Content, seen map[digest.Digest]bool, depth int, left *int) error {
	*left -= len(c.References())
	if depth == 0 || *left < 0 {
		return fmt.Errorf("%w: what it refers to is more than %d deep, or more than %d", ErrManifestInvalid, MaxNesting, mostOfTree)
	}
	for _, d := range c.Manifests {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		m, err := s.Manifest(repo, d.Digest)
		if err != nil {
			continue // told before, or removed meanwhile
		}
		child, err := ParseManifest(m.MediaType, m.Raw)
		if err != nil {
			continue
		}
		if err := checkTree(s, repo, child, seen, depth-1, left); err != nil {
			return err
		}
	}
	return nil
}

// Complete returns ErrManifestUnknown when a manifest names content that is not
// there, itself or through another manifest: a copy that is still under way must not
// be seen.
func Complete(s Reader, repo string, m Manifest) error {
	return completeOnce(s, repo, m, make(map[digest.Digest]bool))
}

func completeOnce(s Reader, repo string, m Manifest, seen map[digest.Digest]bool) error {
	if seen[m.Digest] {
		return nil
	}
	seen[m.Digest] = true
	c, err := ParseManifest(m.MediaType, m.Raw)
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrManifestUnknown, m.Digest, err)
	}
	for _, d := range c.Blobs() {
		f, size, err := s.OpenBlob(repo, d.Digest)
		if err != nil && !errors.Is(err, ErrBlobUnknown) {
			return fmt.Errorf("blob %s: %w", d.Digest, err)
		}
		if err == nil {
			_ = f.Close()
		}
		if err != nil || d.Size >= 0 && size != d.Size {
			return fmt.Errorf("%w: %s: its blob %s is missing", ErrManifestUnknown, m.Digest, d.Digest)
		}
	}
	for _, d := range c.Manifests {
		child, err := s.Manifest(repo, d.Digest)
		if err != nil {
			return fmt.Errorf("%w: %s: its manifest %s is missing", ErrManifestUnknown, m.Digest, d.Digest)
		}
		if err := completeOnce(s, repo, child, seen); err != nil {
			return err
		}
	}
	return nil
}

// BlobsOf returns the blobs that a manifest refers to and the repository has, each
// once and with its size.
func BlobsOf(s Blobs, repo string, c Content) []ispec.Descriptor {
	var all []ispec.Descriptor
	seen := make(map[digest.Digest]bool)
	for _, d := range append(c.Blobs(), c.Optional...) {
		if seen[d.Digest] {
			continue
		}
		size, err := s.BlobSize(repo, d.Digest)
		if err != nil {
			continue
		}
		seen[d.Digest] = true
		d.Size = size
		all = append(all, d)
	}
	return all
}

// Sizes adds the sizes of the blobs that a manifest refers to, itself or through
// other manifests, to sizes.
func Sizes(s Reader, repo string, c Content, sizes map[digest.Digest]int64) {
	for _, d := range BlobsOf(s, repo, c) {
		sizes[d.Digest] = d.Size
	}
	for _, d := range manifestsOf(s, repo, c) {
		if _, seen := sizes[d.Digest]; seen {
			continue
		}
		if m, err := s.Manifest(repo, d.Digest); err == nil {
			sizes[d.Digest] = int64(len(m.Raw))
			if child, err := ParseManifest(m.MediaType, m.Raw); err == nil {
				Sizes(s, repo, child, sizes)
			}
		}
	}
}

// manifestsOf returns the manifests that a manifest refers to: those that it must
// have, and of the others those that the repository has.
func manifestsOf(s Manifests, repo string, c Content) []ispec.Descriptor {
	all := slices.Clone(c.Manifests)
	for _, d := range c.Optional {
		if hasManifest(s, repo, d.Digest) {
			all = append(all, d)
		}
	}
	return all
}

func hasManifest(s Manifests, repo string, d digest.Digest) bool {
	_, err := s.Manifest(repo, d)
	return err == nil
}

// Referrer describes a manifest in a list of those with its subject.
func Referrer(m Manifest, c Content) ispec.Descriptor {
	d := ispec.Descriptor{
		MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Raw)),
		ArtifactType: c.ArtifactType, Annotations: c.Annotations,
	}
	if d.ArtifactType == "" && c.Config != nil {
		d.ArtifactType = c.Config.MediaType
	}
	return d
}
