package fs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

func (s *Store) tagPath(repo, tag string) string { return s.repoPath(repo, "tags", encodeTag(tag)) }

// PutTag implements content.Tags.
func (s *Store) PutTag(repo string, t content.Tag) error {
	if err := oci.CheckTag(t.Name); err != nil {
		return err
	}
	lock, err := s.lockRepo(repo)
	if err != nil {
		return err
	}
	defer lock.unlock()
	commit, err := s.lockCommit(false) // the manifest must not be dropped meanwhile
	if err != nil {
		return err
	}
	defer commit.Close()
	m, err := s.Manifest(repo, t.Digest)
	if err != nil {
		return err
	}
	old, err := s.Tag(repo, t.Name)
	if err == nil && old.Digest == t.Digest && (t.Order == 0 || t.Order == old.Order) {
		return nil
	}
	now := time.Now()
	if t.Pushed.IsZero() {
		t.Pushed = now
	}
	if t.Order == 0 {
		t.Order = lock.nextOrder(now)
	}
	t.MediaType, t.Size = m.MediaType, int64(len(m.Raw))
	if err := s.ensureMeta(repo, m); err != nil {
		return err
	}
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	ch := content.Change{Kind: registryapi.TagPut, Repository: repo, Tag: t.Name, Digest: t.Digest.String(), Order: t.Order}
	return s.journal.record(ch, func() error { return s.writeFile(s.tagPath(repo, t.Name), data) })
}

// Tag implements content.Tags.
func (s *Store) Tag(repo, name string) (content.Tag, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return content.Tag{}, err
	}
	if err := oci.CheckTag(name); err != nil {
		return content.Tag{}, err
	}
	t, err := s.readTag(s.tagPath(repo, name))
	if notExist(err) {
		return t, fmt.Errorf("%w: %s", content.ErrTagUnknown, name)
	}
	return t, err
}

func (s *Store) readTag(path string) (content.Tag, error) {
	var t content.Tag
	data, err := readFile(path)
	if err != nil {
		return t, ioError(err)
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("%w: its file %s is damaged: %v", content.ErrTagUnknown, path, err)
	}
	if _, err := oci.ParseDigest(t.Digest.String()); err != nil {
		return t, fmt.Errorf("%w: its file %s is damaged: %v", content.ErrTagUnknown, path, err)
	}
	return t, oci.CheckTag(t.Name)
}

// Tags implements content.Tags.
func (s *Store) Tags(repo string) ([]content.Tag, error) {
	tags, _, err := s.ReadTags(repo)
	return tags, err
}

// ReadTags implements content.Tags. The damaged ones are told by the paths of their
// files.
func (s *Store) ReadTags(repo string) (tags []content.Tag, damaged []string, err error) {
	if err := oci.CheckRepository(repo); err != nil {
		return nil, nil, err
	}
	files, err := names(s.repoPath(repo, "tags"))
	if err == nil && files == nil {
		err = s.present()
	}
	if err != nil {
		return nil, nil, ioError(err)
	}
	tags = make([]content.Tag, 0, len(files))
	for _, f := range files {
		path := s.repoPath(repo, "tags", f)
		t, err := s.readTag(path)
		switch {
		case err == nil:
			tags = append(tags, t)
		case notExist(err): // removed meanwhile
		case errors.Is(err, content.ErrTagUnknown), errors.Is(err, content.ErrTagInvalid):
			damaged = append(damaged, path)
		default:
			return nil, nil, err
		}
	}
	slices.SortFunc(tags, content.Tag.Compare)
	return tags, damaged, nil
}

// DeleteTag implements content.Tags.
func (s *Store) DeleteTag(repo, name string) error {
	if _, err := s.Tag(repo, name); err != nil {
		return err
	}
	return s.deleteTagIf(repo, name, "")
}

// deleteTagIf removes a tag if it still points to d; "" means whatever it
// points to.
func (s *Store) deleteTagIf(repo, name string, d digest.Digest) error {
	lock, err := s.lockRepo(repo)
	if err != nil {
		return err
	}
	defer lock.unlock()
	t, err := s.Tag(repo, name)
	if errors.Is(err, content.ErrTagUnknown) {
		return nil // another server was faster
	}
	if err != nil {
		return err
	}
	if d != "" && t.Digest != d {
		return nil
	}
	ch := content.Change{Kind: registryapi.TagDeleted, Repository: repo, Tag: name, Digest: t.Digest.String()}
	err = s.journal.record(ch, func() error {
		_, err := remove(s.tagPath(repo, name))
		return err
	})
	_, _ = remove(s.pullPath(repo, name))
	return err
}

// TagsChanged implements content.Tags. It is as the file system tells.
func (s *Store) TagsChanged(repo string) time.Time { return fileTime(s.repoPath(repo, "tags")) }

// Revert implements content.Repositories. Tags go newest first, so that a process that
// dies in between leaves a shorter history and no gap.
func (s *Store) Revert(repo, from string) error {
	tags, err := s.Tags(repo)
	if err != nil {
		return err
	}
	gone, err := content.Reverted(tags, from)
	if err != nil {
		return err
	}
	if len(gone) == len(tags) {
		return s.DeleteRepository(repo)
	}
	dropped := make(map[digest.Digest]bool)
	for _, t := range gone {
		if err := s.deleteTagIf(repo, t.Name, ""); err != nil {
			return err
		}
		dropped[t.Digest] = true
	}
	for d := range dropped {
		m, err := s.Manifest(repo, d)
		if err != nil {
			continue // gone already
		}
		if err := s.dropManifest(repo, m); err != nil && !errors.Is(err, content.ErrInUse) {
			return err
		}
	}
	return nil
}
