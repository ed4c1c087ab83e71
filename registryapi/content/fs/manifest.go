package fs

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
)

// MaxManifest is the largest manifest in bytes, as the specification suggests.
const MaxManifest = 4 << 20

// Manifest is a manifest as pushed: Raw is served byte for byte.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Raw       []byte
	Pushed    time.Time
}

// Content is what a manifest says and refers to.
type Content = oci.Content

// ParseManifest reads a manifest, or returns ErrManifestInvalid.
func ParseManifest(mediaType string, raw []byte) (Content, error) {
	return oci.ReadManifest(mediaType, raw)
}

// BlobsOf returns the blobs that a manifest refers to and the repository has, each
// once and with its size.
func (s *Store) BlobsOf(repo string, c Content) []ispec.Descriptor {
	var all []ispec.Descriptor
	seen := make(map[digest.Digest]bool)
	for _, d := range append(c.Blobs(), c.Optional...) {
		if seen[d.Digest] {
			continue
		}
		size, err := s.linkedSize(repo, d.Digest)
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
func (s *Store) Sizes(repo string, c Content, sizes map[digest.Digest]int64) {
	for _, d := range s.BlobsOf(repo, c) {
		sizes[d.Digest] = d.Size
	}
	for _, d := range s.manifestsOf(repo, c) {
		if _, seen := sizes[d.Digest]; seen {
			continue
		}
		if m, err := s.Manifest(repo, d.Digest); err == nil {
			sizes[d.Digest] = int64(len(m.Raw))
			if child, err := ParseManifest(m.MediaType, m.Raw); err == nil {
				s.Sizes(repo, child, sizes)
			}
		}
	}
}

// manifestsOf returns the manifests that a manifest refers to: those that it must
// have, and of the others those that the repository has.
func (s *Store) manifestsOf(repo string, c Content) []ispec.Descriptor {
	all := slices.Clone(c.Manifests)
	for _, d := range c.Optional {
		if s.manifestKnown(repo, d.Digest) {
			all = append(all, d)
		}
	}
	return all
}

// manifestRecord is the file repos/<repo>/manifests/<alg>/<hex>.
type manifestRecord struct {
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size"`
	Pushed    time.Time `json:"pushed"`
}

func (s *Store) manifestPath(repo string, d digest.Digest) string {
	return s.repoPath(repo, "manifests", digestPath(d))
}

// PutManifest stores a manifest under m.Digest, which must be that of m.Raw,
// and then, in this order, under each tag. Everything it names must be in the
// repository, except its subject and what is optional. A zero m.Pushed means now;
// a copy between stores keeps the original's.
func (s *Store) PutManifest(repo string, m Manifest, tags ...string) error {
	if err := s.putManifest(repo, m, tags); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := s.PutTag(repo, Tag{Name: tag, Digest: m.Digest, MediaType: m.MediaType, Size: int64(len(m.Raw)), Pushed: m.Pushed}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putManifest(repo string, m Manifest, tags []string) error {
	if err := oci.CheckRepository(repo); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := oci.CheckTag(tag); err != nil {
			return err
		}
	}
	if m.Digest.Algorithm().FromBytes(m.Raw) != m.Digest {
		return fmt.Errorf("%w: manifest is not %s", ErrDigestMismatch, m.Digest)
	}
	c, err := ParseManifest(m.MediaType, m.Raw)
	if err != nil {
		return err
	}
	lock, err := s.lockCommit(false)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := s.checkComplete(repo, c); err != nil {
		return err
	}
	known := s.manifestKnown(repo, m.Digest)
	if err := s.writeFile(s.blobPath(m.Digest), m.Raw); err != nil {
		return err
	}
	if c.Subject != nil {
		if err := s.writeFile(s.referrerPath(repo, c.Subject.Digest, m.Digest), nil); err != nil {
			return err
		}
	}
	pushed := m.Pushed
	if pushed.IsZero() {
		pushed = time.Now()
	}
	data, err := json.Marshal(manifestRecord{MediaType: m.MediaType, Size: int64(len(m.Raw)), Pushed: pushed})
	if err != nil {
		return err
	}
	commit := func() error { return s.writeFile(s.manifestPath(repo, m.Digest), data) }
	if known {
		return commit()
	}
	return s.journal.record(Change{Kind: registryapi.ManifestPut, Repository: repo, Digest: m.Digest.String()}, commit)
}

func (s *Store) manifestKnown(repo string, d digest.Digest) bool {
	_, err := s.Manifest(repo, d)
	return err == nil
}

// recorded reports whether a repository has a manifest, damaged or not.
func (s *Store) recorded(repo string, d digest.Digest) bool {
	return !fileTime(s.manifestPath(repo, d)).IsZero()
}

// checkComplete verifies that all content is there with its right size, and
// keeps it from the collector. The subject need not exist.
func (s *Store) checkComplete(repo string, c Content) error {
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
		if !s.manifestKnown(repo, d.Digest) {
			return fmt.Errorf("%w: manifest %s", ErrBlobMissing, d.Digest)
		}
	}
	return nil
}

// Manifest returns a manifest of the repository. It returns ErrManifestUnknown
// also when the content is missing or damaged: manifests are small and are
// hashed at every read.
func (s *Store) Manifest(repo string, d digest.Digest) (Manifest, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return Manifest{}, err
	}
	unknown := func(why string) (Manifest, error) {
		return Manifest{}, fmt.Errorf("%w: %s%s", ErrManifestUnknown, d, why)
	}
	data, err := readFile(s.manifestPath(repo, d))
	if notExist(err) {
		return unknown("")
	}
	if err != nil {
		return Manifest{}, ioError(err)
	}
	var rec manifestRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		return unknown(": its record is damaged")
	}
	raw, err := readFile(s.blobPath(d))
	if notExist(err) {
		return unknown(": its content is missing")
	}
	if err != nil {
		return Manifest{}, ioError(err)
	}
	if d.Algorithm().FromBytes(raw) != d {
		return unknown(": its content is damaged")
	}
	return Manifest{Digest: d, MediaType: rec.MediaType, Raw: raw, Pushed: rec.Pushed}, nil
}

// Complete reports with ErrManifestUnknown when a manifest names content that
// is not there, itself or through another manifest: a copy that is still under way
// must not be seen.
func (s *Store) Complete(repo string, m Manifest) error {
	return s.completeOnce(repo, m, make(map[digest.Digest]bool))
}

func (s *Store) completeOnce(repo string, m Manifest, seen map[digest.Digest]bool) error {
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
		if err := s.completeOnce(repo, child, seen); err != nil {
			return err
		}
	}
	return nil
}

// Manifests returns the digests of all manifests of a repository.
func (s *Store) Manifests(repo string) ([]digest.Digest, error) {
	return s.digestsBelow(s.repoPath(repo, "manifests"))
}

// BlobLinks returns the digests of all blobs that a repository may serve.
func (s *Store) BlobLinks(repo string) ([]digest.Digest, error) {
	return s.digestsBelow(s.repoPath(repo, "blobs"))
}

func (s *Store) digestsBelow(dir string) ([]digest.Digest, error) {
	algs, err := names(dir)
	if err != nil {
		return nil, err
	}
	var all []digest.Digest
	for _, alg := range algs {
		hexes, err := names(filepath.Join(dir, alg))
		if err != nil {
			return nil, err
		}
		for _, hex := range hexes {
			if d, err := oci.ParseDigest(alg + ":" + hex); err == nil {
				all = append(all, d)
			}
		}
	}
	return all, nil
}

// DeleteManifest removes a manifest and every tag that points to it. ErrInUse
// means that an index of the repository names it. Its blobs stay for the
// collector's grace period, so that a pull in progress can end. A damaged
// manifest can be deleted too: the collector waits for that.
func (s *Store) DeleteManifest(repo string, d digest.Digest) error {
	m, err := s.Manifest(repo, d)
	if errors.Is(err, ErrManifestUnknown) && s.recorded(repo, d) {
		m, err = Manifest{Digest: d}, nil
	}
	if err != nil {
		return err
	}
	tags, err := s.Tags(repo)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if t.Digest != d {
			continue
		}
		if err := s.deleteTagIf(repo, t.Name, d); err != nil {
			return err
		}
	}
	return s.dropManifest(repo, m)
}

// dropManifest removes an untagged manifest.
func (s *Store) dropManifest(repo string, m Manifest) error {
	lock, err := s.lockCommit(true) // no index may gain a reference meanwhile
	if err != nil {
		return err
	}
	defer lock.Close()
	used, _, err := s.references(repo)
	if err != nil {
		return err
	}
	if by, ok := used[m.Digest]; ok {
		return fmt.Errorf("%w: manifest %s by index %s", ErrInUse, m.Digest, by)
	}
	tags, err := s.Tags(repo)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if t.Digest == m.Digest {
			return fmt.Errorf("%w: manifest %s by tag %s", ErrInUse, m.Digest, t.Name)
		}
	}
	c, err := ParseManifest(m.MediaType, m.Raw)
	if err == nil {
		s.keepForGrace(repo, c)
		if c.Subject != nil {
			if _, err := remove(s.referrerPath(repo, c.Subject.Digest, m.Digest)); err != nil {
				return err
			}
		}
	}
	return s.journal.record(Change{Kind: registryapi.ManifestDeleted, Repository: repo, Digest: m.Digest.String()}, func() error {
		_, err := remove(s.manifestPath(repo, m.Digest))
		return err
	})
}

func (s *Store) keepForGrace(repo string, c Content) {
	for _, d := range s.BlobsOf(repo, c) {
		_, _ = s.StatBlob(repo, d.Digest)
	}
}

// references maps everything that a repository's manifests name, except
// subjects, to one manifest that names it. What damaged manifests named nobody
// can tell: they are counted.
func (s *Store) references(repo string) (used map[digest.Digest]digest.Digest, damaged int, err error) {
	all, err := s.Manifests(repo)
	if err != nil {
		return nil, 0, err
	}
	used = make(map[digest.Digest]digest.Digest)
	for _, d := range all {
		m, err := s.Manifest(repo, d)
		if errors.Is(err, ErrManifestUnknown) {
			if s.recorded(repo, d) { // not removed meanwhile
				damaged++
			}
			continue
		}
		if err != nil {
			return nil, 0, err // unreadable at present: it keeps what it names
		}
		c, err := ParseManifest(m.MediaType, m.Raw)
		if err != nil {
			damaged++
			continue
		}
		for _, ref := range c.References() {
			used[ref] = d
		}
	}
	return used, damaged, nil
}
