// Package memory is a content.Store in the memory of one process. It is for tests to
// which a directory says nothing: it is quick, has no limits of space, and is gone
// with the process.
package memory

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Store is content in memory. See content.Store for its methods.
type Store struct {
	id string
	// change is held by each change of content and tags, around what it looks at and
	// what it writes; mu only while the fields below are used.
	change sync.Mutex

	mu        sync.Mutex
	blobs     map[digest.Digest]*blob // of all repositories, their manifests too
	repos     map[string]*repository
	uploads   map[string]*upload
	journal   []content.Change
	changed   chan struct{} // closed and replaced with each change
	order     int64         // the last given to a tag
	notes     map[string]string
	documents map[string]map[string][]byte // by folder and name
	locks     map[string]chan struct{}     // of documents: a lock is a place in it
}

var _ content.Store = (*Store)(nil)

type blob struct {
	data []byte // never changed
	used time.Time
}

// repository is what a repository has.
type repository struct {
	blobs     map[digest.Digest]time.Time // when it was last asked for
	manifests map[digest.Digest]manifest
	tags      map[string]content.Tag
	pulls     map[string]time.Time
	tagged    time.Time
	meta      *content.Meta
}

type manifest struct {
	content.Manifest
	says   content.Content
	stored time.Time
}

// New returns a store that has nothing.
func New() *Store {
	return &Store{
		id: uuid.NewString(), blobs: make(map[digest.Digest]*blob), repos: make(map[string]*repository), uploads: make(map[string]*upload),
		changed: make(chan struct{}), notes: make(map[string]string), documents: make(map[string]map[string][]byte), locks: make(map[string]chan struct{}),
	}
}

// ID implements content.Store.
func (s *Store) ID() string { return s.id }

// Place implements content.Store.
func (s *Store) Place() string { return "memory" }

// peek calls f with what a repository has, which is nothing where there is none.
func (s *Store) peek(repo string, f func(r *repository)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[repo]
	if r == nil {
		r = new(repository)
	}
	f(r)
}

// alter is peek for a change. The repository is made if needed.
func (s *Store) alter(repo string, f func(r *repository)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[repo]
	if r == nil {
		r = &repository{blobs: make(map[digest.Digest]time.Time), manifests: make(map[digest.Digest]manifest),
			tags: make(map[string]content.Tag), pulls: make(map[string]time.Time)}
		s.repos[repo] = r
	}
	f(r)
}

// tell adds to the journal. The caller holds mu.
func (s *Store) tell(c content.Change) {
	c.Time = time.Now()
	s.journal = append(s.journal, c)
	close(s.changed)
	s.changed = make(chan struct{})
}

// open is a blob that is open.
type open struct{ *bytes.Reader }

func (open) Close() error { return nil }

// find returns a blob of a repository. keep is for another grace period.
func (s *Store) find(repo string, d digest.Digest, keep bool) (found *blob, err error) {
	if err := oci.CheckRepository(repo); err != nil {
		return nil, err
	}
	s.peek(repo, func(r *repository) {
		if _, ok := r.blobs[d]; !ok {
			err = fmt.Errorf("%w: %s", content.ErrBlobUnknown, d)
			return
		}
		if keep {
			r.blobs[d] = time.Now()
		}
		found = s.blobs[d]
	})
	return found, err
}

// OpenBlob implements content.Blobs.
func (s *Store) OpenBlob(repo string, d digest.Digest) (content.Blob, int64, error) {
	b, err := s.find(repo, d, false)
	if err != nil {
		return nil, 0, err
	}
	return open{bytes.NewReader(b.data)}, int64(len(b.data)), nil
}

// StatBlob implements content.Blobs.
func (s *Store) StatBlob(repo string, d digest.Digest) (int64, error) {
	b, err := s.find(repo, d, true)
	if err != nil {
		return 0, err
	}
	return int64(len(b.data)), nil
}

// BlobSize implements content.Blobs.
func (s *Store) BlobSize(repo string, d digest.Digest) (int64, error) {
	b, err := s.find(repo, d, false)
	if err != nil {
		return 0, err
	}
	return int64(len(b.data)), nil
}

// Mount implements content.Blobs.
func (s *Store) Mount(repo, from string, d digest.Digest) (int64, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return 0, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	for name, r := range s.repos {
		if _, ok := r.blobs[d]; ok && from == "" {
			from = name
		}
	}
	s.mu.Unlock()
	if from == "" {
		return 0, fmt.Errorf("%w: %s", content.ErrBlobUnknown, d)
	}
	size, err := s.StatBlob(from, d)
	if err == nil {
		s.alter(repo, func(r *repository) { r.blobs[d] = time.Now() })
	}
	return size, err
}

// DeleteBlob implements content.Blobs.
func (s *Store) DeleteBlob(repo string, d digest.Digest) error {
	s.change.Lock()
	defer s.change.Unlock()
	if _, err := s.BlobSize(repo, d); err != nil {
		return err
	}
	var err error
	s.alter(repo, func(r *repository) {
		if by := r.needs(d); by != "" {
			err = fmt.Errorf("%w: blob %s by manifest %s", content.ErrInUse, d, by)
			return
		}
		delete(r.blobs, d)
	})
	return err
}

// needs returns a manifest that names content, or "".
func (r *repository) needs(d digest.Digest) digest.Digest {
	for by, m := range r.manifests {
		if slices.Contains(m.says.References(), d) {
			return by
		}
	}
	return ""
}

func (r *repository) tagOf(d digest.Digest) string {
	for name, t := range r.tags {
		if t.Digest == d {
			return name
		}
	}
	return ""
}

// PutManifest implements content.Manifests.
func (s *Store) PutManifest(repo string, m content.Manifest, tags ...string) error {
	says, err := content.CheckPut(repo, m, tags)
	if err != nil {
		return err
	}
	if err := s.putManifest(repo, m, says); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := s.PutTag(repo, content.Tag{Name: tag, Digest: m.Digest, Pushed: m.Pushed}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) putManifest(repo string, m content.Manifest, says content.Content) error {
	s.change.Lock()
	defer s.change.Unlock()
	if err := content.CheckNamed(s, repo, says); err != nil {
		return err
	}
	now := time.Now()
	m.Raw = bytes.Clone(m.Raw)
	if m.Pushed.IsZero() {
		m.Pushed = now
	}
	s.alter(repo, func(r *repository) {
		s.blobs[m.Digest] = &blob{m.Raw, now}
		_, known := r.manifests[m.Digest]
		r.manifests[m.Digest] = manifest{m, says, now}
		if !known {
			s.tell(content.Change{Kind: registryapi.ManifestPut, Repository: repo, Digest: m.Digest.String()})
		}
	})
	return nil
}

// Manifest implements content.Manifests.
func (s *Store) Manifest(repo string, d digest.Digest) (found content.Manifest, err error) {
	if err := oci.CheckRepository(repo); err != nil {
		return found, err
	}
	s.peek(repo, func(r *repository) {
		m, ok := r.manifests[d]
		if !ok {
			err = fmt.Errorf("%w: %s", content.ErrManifestUnknown, d)
			return
		}
		found = m.Manifest
	})
	return found, err
}

// Manifests implements content.Manifests.
func (s *Store) Manifests(repo string) (all []digest.Digest, err error) {
	err = oci.CheckRepository(repo)
	s.peek(repo, func(r *repository) { all = slices.Collect(maps.Keys(r.manifests)) })
	return all, err
}

// DeleteManifest implements content.Manifests.
func (s *Store) DeleteManifest(repo string, d digest.Digest) error {
	s.change.Lock()
	defer s.change.Unlock()
	if _, err := s.Manifest(repo, d); err != nil {
		return err
	}
	var err error
	s.alter(repo, func(r *repository) {
		for name := r.tagOf(d); name != ""; name = r.tagOf(d) {
			s.dropTag(repo, r, name)
		}
		err = s.dropManifest(repo, r, d)
	})
	return err
}

// dropManifest removes a manifest that nothing needs. The caller holds mu.
func (s *Store) dropManifest(repo string, r *repository, d digest.Digest) error {
	if by := cmp.Or(r.tagOf(d), string(r.needs(d))); by != "" {
		return fmt.Errorf("%w: manifest %s by %s", content.ErrInUse, d, by)
	}
	m := r.manifests[d]
	for _, ref := range m.says.References() {
		if _, ok := r.blobs[ref]; ok {
			r.blobs[ref] = time.Now() // a pull may go on
		}
	}
	delete(r.manifests, d)
	s.tell(content.Change{Kind: registryapi.ManifestDeleted, Repository: repo, Digest: d.String()})
	return nil
}

// Referrers implements content.Manifests.
func (s *Store) Referrers(repo string, d digest.Digest, artifactType string) ([]ispec.Descriptor, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return nil, err
	}
	found := []ispec.Descriptor{}
	s.peek(repo, func(r *repository) {
		for _, m := range r.manifests {
			desc := content.Referrer(m.Manifest, m.says)
			if m.says.Subject != nil && m.says.Subject.Digest == d && (artifactType == "" || artifactType == desc.ArtifactType) {
				found = append(found, desc)
			}
		}
	})
	slices.SortFunc(found, func(a, b ispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return found, nil
}

// Repositories implements content.Repositories.
func (s *Store) Repositories() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.AppendSeq(make([]string, 0, len(s.repos)), maps.Keys(s.repos))
	slices.Sort(all)
	return all, nil
}

// RepositoryExists implements content.Repositories.
func (s *Store) RepositoryExists(repo string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repos[repo] != nil
}

// Meta implements content.Repositories.
func (s *Store) Meta(repo string) (meta content.Meta) {
	s.peek(repo, func(r *repository) {
		if r.meta != nil {
			meta = *r.meta
		}
	})
	if _, err := uuid.Parse(meta.ID); err != nil {
		meta.ID = content.RepositoryID(repo)
	}
	return meta
}

// SetMeta implements content.Repositories.
func (s *Store) SetMeta(repo string, m content.Meta) error {
	if err := oci.CheckRepository(repo); err != nil {
		return err
	}
	s.alter(repo, func(r *repository) {
		r.meta = &m
		s.tell(content.Change{Kind: registryapi.MetaPut, Repository: repo})
	})
	return nil
}

// DeleteRepository implements content.Repositories.
func (s *Store) DeleteRepository(repo string) error {
	s.change.Lock()
	defer s.change.Unlock()
	return s.deleteRepository(repo)
}

func (s *Store) deleteRepository(repo string) error {
	if err := oci.CheckRepository(repo); err != nil {
		return err
	}
	if !s.RepositoryExists(repo) {
		return content.ErrRepositoryUnknown
	}
	s.alter(repo, func(r *repository) {
		for name := range r.tags {
			s.dropTag(repo, r, name)
		}
		s.dropUntagged(repo, r, time.Now().AddDate(1, 0, 0), false)
		r.meta = nil
		s.tell(content.Change{Kind: registryapi.RepositoryDeleted, Repository: repo})
	})
	return nil
}

// Revert implements content.Repositories.
func (s *Store) Revert(repo, from string) error {
	s.change.Lock()
	defer s.change.Unlock()
	tags, err := s.Tags(repo)
	if err != nil {
		return err
	}
	gone, err := content.Reverted(tags, from)
	if err != nil {
		return err
	}
	if len(gone) == len(tags) {
		return s.deleteRepository(repo)
	}
	s.alter(repo, func(r *repository) {
		for _, t := range gone {
			s.dropTag(repo, r, t.Name)
		}
		for _, t := range gone {
			if _, ok := r.manifests[t.Digest]; ok {
				err = errors.Join(err, s.dropManifest(repo, r, t.Digest))
			}
		}
	})
	if errors.Is(err, content.ErrInUse) { // no other error is possible
		return nil
	}
	return err
}
