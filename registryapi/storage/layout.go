package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Export writes a repository's tags, or only those named, as an OCI image
// layout to dir, which must not have one yet. index.json comes last, so that a
// layout with one is complete.
func (s *Store) Export(ctx context.Context, repo, dir string, only ...string) error {
	tags, err := s.Tags(repo)
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		return fmt.Errorf("%w: %s", ErrRepositoryUnknown, repo)
	}
	if len(only) > 0 {
		byName := make(map[string]Tag)
		for _, t := range tags {
			byName[t.Name] = t
		}
		tags = tags[:0:0]
		for _, name := range only {
			t, ok := byName[name]
			if !ok {
				return fmt.Errorf("%w: %s", ErrTagUnknown, name)
			}
			tags = append(tags, t)
		}
	}
	indexPath := filepath.Join(dir, ispec.ImageIndexFile)
	if _, err := os.Stat(indexPath); !notExist(err) {
		return fmt.Errorf("%s has an image layout already", dir)
	}
	index := ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex}
	for _, t := range tags {
		desc, err := s.exportManifest(ctx, repo, t.Digest, dir)
		if err != nil {
			return fmt.Errorf("export %s:%s: %w", repo, t.Name, err)
		}
		desc.Annotations = map[string]string{ispec.AnnotationRefName: t.Name}
		index.Manifests = append(index.Manifests, desc)
	}
	layout, err := json.Marshal(ispec.ImageLayout{Version: ispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, ispec.ImageLayoutFile), layout, 0o644); err != nil {
		return err
	}
	return os.WriteFile(indexPath, data, 0o644)
}

func (s *Store) exportManifest(ctx context.Context, repo string, d digest.Digest, dir string) (ispec.Descriptor, error) {
	m, err := s.Manifest(repo, d)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	c, err := ParseManifest(m.MediaType, m.Raw)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	for _, b := range c.Blobs() {
		if foreign(b) {
			continue
		}
		f, _, err := s.OpenBlob(repo, b.Digest)
		if err != nil {
			return ispec.Descriptor{}, err
		}
		err = copyOut(ctx, layoutBlob(dir, b.Digest), f)
		_ = f.Close()
		if err != nil {
			return ispec.Descriptor{}, err
		}
	}
	for _, child := range c.Manifests {
		if _, err := s.exportManifest(ctx, repo, child.Digest, dir); err != nil {
			return ispec.Descriptor{}, err
		}
	}
	path := layoutBlob(dir, d)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return ispec.Descriptor{}, err
	}
	return ispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(len(m.Raw))}, os.WriteFile(path, m.Raw, 0o644)
}

func layoutBlob(dir string, d digest.Digest) string {
	return filepath.Join(dir, ispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// copyOut copies a file, by reference where the file system can.
func copyOut(ctx context.Context, path string, from *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// Import puts an OCI image layout into a repository: blobs, then manifests,
// then the tags that index.json names. It returns the tags.
func (s *Store) Import(ctx context.Context, dir, repo string) ([]string, error) {
	if err := CheckRepository(repo); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, ispec.ImageIndexFile))
	if err != nil {
		return nil, fmt.Errorf("%s is not an image layout: %w", dir, err)
	}
	var index ispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("%s: %w: %v", ispec.ImageIndexFile, ErrManifestInvalid, err)
	}
	var tags []string
	for _, d := range index.Manifests {
		var names []string
		if name := d.Annotations[ispec.AnnotationRefName]; name != "" {
			names = []string{name}
		}
		if err := s.importManifest(ctx, dir, repo, d, names); err != nil {
			return tags, fmt.Errorf("import %s: %w", d.Digest, err)
		}
		tags = append(tags, names...)
	}
	return tags, nil
}

func (s *Store) importManifest(ctx context.Context, dir, repo string, d ispec.Descriptor, tags []string) error {
	if err := checkDescriptor(d); err != nil {
		return err
	}
	raw, err := os.ReadFile(layoutBlob(dir, d.Digest))
	if err != nil {
		return err
	}
	c, err := ParseManifest(d.MediaType, raw)
	if err != nil {
		return err
	}
	for _, b := range c.Blobs() {
		if foreign(b) {
			continue
		}
		if err := s.importBlob(ctx, layoutBlob(dir, b.Digest), repo, b.Digest); err != nil {
			return err
		}
	}
	for _, child := range c.Manifests {
		if err := s.importManifest(ctx, dir, repo, child, nil); err != nil {
			return err
		}
	}
	return s.PutManifest(repo, Manifest{Digest: d.Digest, MediaType: d.MediaType, Raw: raw}, tags...)
}

func (s *Store) importBlob(ctx context.Context, path, repo string, d digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := s.StatBlob(repo, d); err == nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", path, fs.ErrInvalid)
	}
	if err := s.CheckSpace(info.Size()); err != nil {
		return err
	}
	u, err := s.NewUpload(repo, d.Algorithm())
	if err != nil {
		return err
	}
	if _, err = u.Append(f); err == nil {
		err = u.Commit(d)
	}
	if err != nil {
		_ = u.Cancel()
	}
	return err
}
