package fs

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

func (s *Store) metaPath(repo string) string { return s.repoPath(repo, "meta") }

// Meta implements content.Repositories. A file that is damaged counts as none.
func (s *Store) Meta(repo string) content.Meta {
	var m content.Meta
	data, err := readFile(s.metaPath(repo))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if _, perr := uuid.Parse(m.ID); err != nil || perr != nil {
		m.ID = content.RepositoryID(repo)
	}
	return m
}

// SetMeta implements content.Repositories.
func (s *Store) SetMeta(repo string, m content.Meta) error {
	if err := oci.CheckRepository(repo); err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.journal.record(content.Change{Kind: registryapi.MetaPut, Repository: repo}, func() error {
		return s.writeFile(s.metaPath(repo), data)
	})
}

// ensureMeta gives a repository its id at the first tag. The caller holds the
// repository's lock.
func (s *Store) ensureMeta(repo string, m content.Manifest) error {
	if _, err := readFile(s.metaPath(repo)); !notExist(err) {
		return ioError(err)
	}
	data, err := json.Marshal(content.NewMeta(s, repo, m, time.Now()))
	if err != nil {
		return err
	}
	return s.writeFile(s.metaPath(repo), data)
}

// DeleteRepository implements content.Repositories.
func (s *Store) DeleteRepository(repo string) error {
	if err := oci.CheckRepository(repo); err != nil {
		return err
	}
	if !s.RepositoryExists(repo) {
		return content.ErrRepositoryUnknown
	}
	tags, damaged, err := s.ReadTags(repo)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if err := s.deleteTagIf(repo, t.Name, ""); err != nil {
			return err
		}
	}
	if err := s.removeDamaged(repo, damaged); err != nil {
		return err
	}
	if _, err := s.dropUntagged(repo, time.Now().AddDate(1, 0, 0), false); err != nil {
		return err
	}
	if left, err := s.Tags(repo); err == nil && len(left) == 0 {
		return s.journal.record(content.Change{Kind: registryapi.RepositoryDeleted, Repository: repo}, func() error {
			_, err := remove(s.metaPath(repo))
			return err
		})
	}
	return nil
}

// removeDamaged removes the files of tags, and the records of manifests, that
// cannot be read as such: nothing else ever would.
func (s *Store) removeDamaged(repo string, tags []string) error {
	lock, err := s.lockRepo(repo)
	if err != nil {
		return err
	}
	defer lock.unlock()
	for _, path := range tags {
		if _, err := s.readTag(path); err == nil {
			continue // pushed again meanwhile
		}
		if _, err := remove(path); err != nil {
			return err
		}
	}
	commit, err := s.lockCommit(true)
	if err != nil {
		return err
	}
	defer commit.Close()
	manifests, err := s.Manifests(repo)
	if err != nil {
		return err
	}
	for _, d := range manifests {
		if _, err := s.Manifest(repo, d); !errors.Is(err, content.ErrManifestUnknown) {
			continue
		}
		if _, err := remove(s.manifestPath(repo, d)); err != nil {
			return err
		}
	}
	return nil
}
