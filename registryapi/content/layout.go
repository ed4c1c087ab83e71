package content

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/oci"
)

// layoutFile is how files of a layout are written: an export that is broken off, or a
// host that dies, leaves none that is torn.
var layoutFile = atomicfile.Options{Mode: 0o644}

// LayoutOptions changes how Export and Import work; the zero value is good.
type LayoutOptions struct {
	// Tags are the ones to export; none means all.
	Tags []string
	// Progress is called with the bytes copied so far and those there are; it
	// may be nil. What need not be copied counts at once.
	Progress func(done, total int64)
}

// copying is an export or import under way.
type copying struct {
	s           Store
	ctx         context.Context // of the one call that it is
	dir, repo   string
	progress    func(done, total int64)
	done, total int64
	left        map[digest.Digest]bool // expected, and not copied yet
}

func (c *copying) count(n int64) {
	c.done += n
	if c.progress != nil {
		c.progress(c.done, c.total)
	}
}

// expect adds blobs to the total, once.
func (c *copying) expect(blobs []ispec.Descriptor) {
	for _, b := range blobs {
		if !c.left[b.Digest] {
			c.left[b.Digest] = true
			c.total += b.Size
		}
	}
}

// Export writes a repository's tags as an OCI image layout to dir, which must
// not have one yet, and returns their names. index.json comes last, so that a
// layout with one is complete.
func Export(ctx context.Context, s Store, repo, dir string, opt LayoutOptions) ([]string, error) {
	tags, err := selectTags(s, repo, opt.Tags)
	if err != nil {
		return nil, err
	}
	indexPath := filepath.Join(dir, ispec.ImageIndexFile)
	if _, err := os.Stat(indexPath); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has an image layout already", dir)
	}
	c := &copying{s: s, ctx: ctx, dir: dir, repo: repo, progress: opt.Progress, left: make(map[digest.Digest]bool)}
	for _, t := range tags {
		if err := c.expectManifest(t.Digest); err != nil {
			return nil, fmt.Errorf("export %s:%s: %w", repo, t.Name, err)
		}
	}
	index := ispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex}
	var done []string
	for _, t := range tags {
		desc, err := c.exportManifest(t.Digest)
		if err != nil {
			return done, fmt.Errorf("export %s:%s: %w", repo, t.Name, err)
		}
		desc.Annotations = map[string]string{ispec.AnnotationRefName: t.Name}
		index.Manifests = append(index.Manifests, desc)
		done = append(done, t.Name)
	}
	layout, err := json.Marshal(ispec.ImageLayout{Version: ispec.ImageLayoutVersion})
	if err != nil {
		return done, err
	}
	data, err := json.Marshal(index)
	if err != nil {
		return done, err
	}
	if err := layoutFile.Write(filepath.Join(dir, ispec.ImageLayoutFile), layout); err != nil {
		return done, err
	}
	return done, layoutFile.Write(indexPath, data)
}

// selectTags returns the tags named, or all.
func selectTags(s Tags, repo string, only []string) ([]Tag, error) {
	tags, err := s.Tags(repo)
	if err != nil {
		return nil, err
	}
	if len(tags) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrRepositoryUnknown, repo)
	}
	if len(only) == 0 {
		return tags, nil
	}
	var selected []Tag
	for _, name := range only {
		i := slices.IndexFunc(tags, func(t Tag) bool { return t.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: %s", ErrTagUnknown, name)
		}
		selected = append(selected, tags[i])
	}
	return selected, nil
}

// content reads a manifest of the store.
func (c *copying) content(d digest.Digest) (Manifest, Content, error) {
	m, err := c.s.Manifest(c.repo, d)
	if err != nil {
		return m, Content{}, err
	}
	content, err := ParseManifest(m.MediaType, m.Raw)
	return m, content, err
}

func (c *copying) expectManifest(d digest.Digest) error {
	m, content, err := c.content(d)
	if err != nil {
		return err
	}
	// Damage is found before anything is written.
	if err := Complete(c.s, c.repo, m); err != nil {
		return err
	}
	c.expect(BlobsOf(c.s, c.repo, content))
	for _, child := range manifestsOf(c.s, c.repo, content) {
		if err := c.expectManifest(child.Digest); err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) exportManifest(d digest.Digest) (ispec.Descriptor, error) {
	m, content, err := c.content(d)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	for _, b := range BlobsOf(c.s, c.repo, content) {
		if !c.left[b.Digest] { // of another tag too, and written
			continue
		}
		f, _, err := c.s.OpenBlob(c.repo, b.Digest)
		if err != nil {
			return ispec.Descriptor{}, err
		}
		err = c.copyOut(layoutBlob(c.dir, b.Digest), f)
		_ = f.Close()
		if err != nil {
			return ispec.Descriptor{}, err
		}
		delete(c.left, b.Digest)
	}
	for _, child := range manifestsOf(c.s, c.repo, content) {
		if _, err := c.exportManifest(child.Digest); err != nil {
			return ispec.Descriptor{}, err
		}
	}
	path := layoutBlob(c.dir, d)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return ispec.Descriptor{}, err
	}
	return ispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(len(m.Raw))}, layoutFile.Write(path, m.Raw)
}

func layoutBlob(dir string, d digest.Digest) string {
	return filepath.Join(dir, ispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// copyStep is how much is copied between two looks at the context.
const copyStep = 64 << 20

// copyOut copies content, of a file by reference where the file system can.
func (c *copying) copyOut(path string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	for err == nil {
		var n int64
		n, err = io.CopyN(to, from, copyStep)
		c.count(n)
		err = cmp.Or(c.ctx.Err(), err)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, to.Close())
}

// Import puts an OCI image layout into a repository: blobs, then manifests,
// then the tags that index.json names. It returns the tags.
func Import(ctx context.Context, s Store, dir, repo string, opt LayoutOptions) ([]string, error) {
	if err := oci.CheckRepository(repo); err != nil {
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
	c := &copying{s: s, ctx: ctx, dir: dir, repo: repo, progress: opt.Progress, left: make(map[digest.Digest]bool)}
	// All manifests are read before anything is stored: a layout that is not
	// whole is refused at once.
	for _, d := range index.Manifests {
		if name := d.Annotations[ispec.AnnotationRefName]; name != "" {
			if err := oci.CheckTag(name); err != nil {
				return nil, err
			}
		}
		if err := c.eachOfLayout(d, func(_ Manifest, content Content) error { c.expect(c.blobsOfLayout(content)); return nil }); err != nil {
			return nil, fmt.Errorf("import %s: %w", d.Digest, err)
		}
	}
	var tags []string
	for _, d := range index.Manifests {
		if err := c.eachOfLayout(d, c.importManifest); err != nil {
			return tags, fmt.Errorf("import %s: %w", d.Digest, err)
		}
		name := d.Annotations[ispec.AnnotationRefName]
		if name == "" {
			continue
		}
		if err := s.PutTag(repo, Tag{Name: name, Digest: d.Digest}); err != nil {
			return tags, fmt.Errorf("import %s: %w", d.Digest, err)
		}
		tags = append(tags, name)
	}
	return tags, nil
}

// eachOfLayout calls f for a manifest of the layout, after those it names.
func (c *copying) eachOfLayout(d ispec.Descriptor, f func(Manifest, Content) error) error {
	if err := oci.CheckDescriptor(d); err != nil {
		return fmt.Errorf("%w: %v", ErrManifestInvalid, err)
	}
	raw, err := os.ReadFile(layoutBlob(c.dir, d.Digest))
	if err != nil {
		return err
	}
	content, err := ParseManifest(d.MediaType, raw)
	if err != nil {
		return err
	}
	for _, child := range content.Manifests {
		if err := c.eachOfLayout(child, f); err != nil {
			return err
		}
	}
	return f(Manifest{Digest: d.Digest, MediaType: d.MediaType, Raw: raw}, content)
}

func (c *copying) importManifest(m Manifest, content Content) error {
	for _, b := range c.blobsOfLayout(content) {
		if err := c.importBlob(b.Digest); err != nil {
			return err
		}
	}
	return c.s.PutManifest(c.repo, m)
}

// blobsOfLayout returns the blobs that a manifest of the layout refers to: those
// that must be there, and of the others those that are.
func (c *copying) blobsOfLayout(content Content) []ispec.Descriptor {
	var all []ispec.Descriptor
	for _, b := range content.Blobs() {
		if info, err := os.Stat(layoutBlob(c.dir, b.Digest)); err == nil {
			b.Size = info.Size()
		}
		all = append(all, b)
	}
	for _, b := range content.Optional {
		if info, err := os.Stat(layoutBlob(c.dir, b.Digest)); err == nil {
			b.Size = info.Size()
			all = append(all, b)
		}
	}
	return all
}

func (c *copying) importBlob(d digest.Digest) error {
	f, err := os.Open(layoutBlob(c.dir, d))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", f.Name(), fs.ErrInvalid)
	}
	first := c.left[d]
	delete(c.left, d)
	if _, err := c.s.StatBlob(c.repo, d); err == nil {
		if first {
			c.count(info.Size())
		}
		return nil
	}
	if err := c.s.CheckSpace(info.Size()); err != nil {
		return err
	}
	u, err := c.s.NewUpload(c.repo, d.Algorithm())
	if err != nil {
		return err
	}
	if _, err = u.Append(countedFile{f, c}); err == nil {
		err = u.Commit(d)
	}
	if err != nil {
		_ = u.Cancel()
	}
	return err
}

// countedFile counts what is read of a file, and stops with the context.
type countedFile struct {
	f *os.File
	c *copying
}

func (r countedFile) Read(p []byte) (int, error) {
	if err := r.c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.f.Read(p)
	r.c.count(int64(n))
	return n, err
}
