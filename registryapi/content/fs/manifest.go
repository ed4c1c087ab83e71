package fs

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// manifestRecord is the file repos/<repo>/manifests/<alg>/<hex>.
type manifestRecord struct {
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size"`
	Pushed    time.Time `json:"pushed"`
}

func (s *Store) manifestPath(repo string, d digest.Digest) string {
	return s.repoPath(repo, "manifests", digestPath(d))
}

// PutManifest implements content.Manifests.
func (s *Store) PutManifest(repo string, m content.Manifest, tags ...string) error {
	if err := s.putManifest(repo, m, tags); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := s.PutTag(repo, content.Tag{Name: tag, Digest: m.Digest, MediaType: m.MediaType, Size: int64(len(m.Raw)), Pushed: m.Pushed}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putManifest(repo string, m content.Manifest, tags []string) error {
	c, err := content.CheckPut(repo, m, tags)
	if err != nil {
		return err
	}
	lock, err := s.lockCommit(false)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := content.CheckNamed(s, repo, c); err != nil {
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
	return s.journal.record(content.Change{Kind: registryapi.ManifestPut, Repository: repo, Digest: m.Digest.String()}, commit)
}

func (s *Store) manifestKnown(repo string, d digest.Digest) bool {
	_, err := s.Manifest(repo, d)
	return err == nil
}

// recorded reports whether a repository has a manifest, damaged or not.
func (s *Store) recorded(repo string, d digest.Digest) bool {
	return !fileTime(s.manifestPath(repo, d)).IsZero()
}

// Manifest implements content.Manifests. Manifests are small and are hashed at every
// read.
func (s *Store) Manifest(repo string, d digest.Digest) (content.Manifest, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return content.Manifest{}, err
	}
	unknown := func(why string) (content.Manifest, error) {
		return content.Manifest{}, fmt.Errorf("%w: %s%s", content.ErrManifestUnknown, d, why)
	}
	data, err := readFile(s.manifestPath(repo, d))
	if notExist(err) {
		return unknown("")
	}
	if err != nil {
		return content.Manifest{}, ioError(err)
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
		return content.Manifest{}, ioError(err)
	}
	if d.Algorithm().FromBytes(raw) != d {
		return unknown(": its content is damaged")
	}
	return content.Manifest{Digest: d, MediaType: rec.MediaType, Raw: raw, Pushed: rec.Pushed}, nil
}

// Manifests implements content.Manifests.
func (s *Store) Manifests(repo string) ([]digest.Digest, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return nil, err
	}
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

// DeleteManifest implements content.Manifests.
func (s *Store) DeleteManifest(repo string, d digest.Digest) error {
	m, err := s.Manifest(repo, d)
	if errors.Is(err, content.ErrManifestUnknown) && s.recorded(repo, d) {
		m, err = content.Manifest{Digest: d}, nil
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
func (s *Store) dropManifest(repo string, m content.Manifest) error {
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
		return fmt.Errorf("%w: manifest %s by index %s", content.ErrInUse, m.Digest, by)
	}
	tags, err := s.Tags(repo)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if t.Digest == m.Digest {
			return fmt.Errorf("%w: manifest %s by tag %s", content.ErrInUse, m.Digest, t.Name)
		}
	}
	c, err := content.ParseManifest(m.MediaType, m.Raw)
	if err == nil {
		s.keepForGrace(repo, c)
		if c.Subject != nil {
			if _, err := remove(s.referrerPath(repo, c.Subject.Digest, m.Digest)); err != nil {
				return err
			}
		}
	}
	return s.journal.record(content.Change{Kind: registryapi.ManifestDeleted, Repository: repo, Digest: m.Digest.String()}, func() error {
		_, err := remove(s.manifestPath(repo, m.Digest))
		return err
	})
}

func (s *Store) keepForGrace(repo string, c content.Content) {
	for _, d := range content.BlobsOf(s, repo, c) {
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
		if errors.Is(err, content.ErrManifestUnknown) {
			if s.recorded(repo, d) { // not removed meanwhile
				damaged++
			}
			continue
		}
		if err != nil {
			return nil, 0, err // unreadable at present: it keeps what it names
		}
		c, err := content.ParseManifest(m.MediaType, m.Raw)
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
