// Package contenttest tests an implementation of content.Store: every promise of that
// interface's comments. What servers of one store do to each other, and what becomes of
// a store when its process dies or its disk fails, is tested beside the implementation.
package contenttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Run tests stores. open returns a new one, without limits of space.
func Run(t *testing.T, open func(t *testing.T) content.Store) {
	for _, group := range []map[string]func(*testing.T, store){blobs, uploads, manifests, tags, repositories, journal, care} {
		for name, test := range group {
			t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				test(t, store{open(t), t})
			})
		}
	}
	t.Run("names_of_the_grammar", func(t *testing.T) { testNames(t, open) })
	t.Run("each_store_has_an_id", func(t *testing.T) {
		a, b := open(t), open(t)
		if a.ID() == "" || a.ID() == b.ID() || a.Place() == "" {
			t.Errorf("ids %q and %q, place %q", a.ID(), b.ID(), a.Place())
		}
	})
}

// store is a store under test, and what tests do to it.
type store struct {
	content.Store
	t *testing.T
}

func (s store) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// refused fails the test unless err is want.
func (s store) refused(what string, err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// begin begins an upload to vm with some content.
func (s store) begin(data string) content.Upload {
	s.t.Helper()
	u, err := s.NewUpload("vm", "")
	s.ok(err)
	s.append(u, data)
	return u
}

func (s store) append(u content.Upload, data string) {
	s.t.Helper()
	if n, err := u.Append(strings.NewReader(data)); err != nil || n != int64(len(data)) {
		s.t.Fatalf("append: %d bytes, %v", n, err)
	}
}

func (s store) reopen(id string) content.Upload {
	s.t.Helper()
	u, err := s.OpenUpload(s.t.Context(), "vm", id)
	s.ok(err)
	return u
}

// blob pushes a blob.
func (s store) blob(repo, data string) digest.Digest {
	s.t.Helper()
	d := digest.FromString(data)
	s.ok(pushBlob(s, repo, data))
	return d
}

func pushBlob(s content.Store, repo, data string) error {
	u, err := s.NewUpload(repo, digest.SHA256)
	if err != nil {
		return err
	}
	_, err = u.Append(strings.NewReader(data))
	if err == nil {
		err = u.Commit(digest.FromString(data))
	}
	return errors.Join(err, u.Close())
}

// has fails the test unless a repository serves a blob.
func (s store) has(repo, data string) {
	s.t.Helper()
	got, err := content.ReadBlob(s, repo, digest.FromString(data))
	if err != nil || string(got) != data {
		s.t.Errorf("%s has %q, %v, want %q", repo, got, err, data)
	}
}

// lacks fails the test unless a blob is unknown to a repository.
func (s store) lacks(repo, data string) {
	s.t.Helper()
	d := digest.FromString(data)
	_, _, err := s.OpenBlob(repo, d)
	s.refused("open", err, content.ErrBlobUnknown)
	_, err = s.StatBlob(repo, d)
	s.refused("stat", err, content.ErrBlobUnknown)
	_, err = s.BlobSize(repo, d)
	s.refused("size", err, content.ErrBlobUnknown)
}

// image is a manifest with a configuration and one layer, which are not pushed.
func image(config, layer string) content.Manifest {
	return manifestOf(ispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":%d},"layers":[{"mediaType":"l","digest":%q,"size":%d}]}`,
		digest.FromString(config), len(config), digest.FromString(layer), len(layer))
}

func manifestOf(mediaType, format string, args ...any) content.Manifest {
	raw := fmt.Appendf(nil, format, args...)
	return content.Manifest{Digest: digest.FromBytes(raw), MediaType: mediaType, Raw: raw}
}

// indexOf is an index of one manifest.
func indexOf(m content.Manifest) content.Manifest {
	return manifestOf(ispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, m.MediaType, m.Digest, len(m.Raw))
}

// about is an artefact of a type whose subject is d.
func about(d digest.Digest, artifactType string) content.Manifest {
	return manifestOf(ispec.MediaTypeImageManifest, `{"schemaVersion":2,"artifactType":%q,"config":{"mediaType":"c","digest":%q,"size":2},"layers":[],"subject":{"mediaType":"m","digest":%q,"size":1}}`,
		artifactType, digest.FromString("{}"), d)
}

// push pushes an image with its content, under tags.
func (s store) push(repo, layer string, tags ...string) content.Manifest {
	s.t.Helper()
	m, err := pushImage(s, repo, layer, tags...)
	s.ok(err)
	return m
}

func pushImage(s content.Store, repo, layer string, tags ...string) (content.Manifest, error) {
	m := image("{}", layer)
	return m, errors.Join(pushBlob(s, repo, "{}"), pushBlob(s, repo, layer), s.PutManifest(repo, m, tags...))
}

func (s store) put(repo string, m content.Manifest, tags ...string) content.Manifest {
	s.t.Helper()
	s.ok(s.PutManifest(repo, m, tags...))
	return m
}

// tagged returns the tags of a repository in their order, as one text.
func (s store) tagged(repo string) string {
	s.t.Helper()
	tags, damaged, err := s.ReadTags(repo)
	s.ok(err)
	var names []string
	for _, t := range tags {
		names = append(names, t.Name)
	}
	if len(damaged) > 0 {
		s.t.Errorf("damaged tags: %q", damaged)
	}
	return strings.Join(names, " ")
}

// collect removes all that nothing refers to.
func (s store) collect() content.Collected {
	s.t.Helper()
	got, err := s.Collect(s.t.Context(), content.CollectOptions{})
	s.ok(err)
	return got
}

// testNames gives every method that returns an error a name that is none.
func testNames(t *testing.T, open func(t *testing.T) content.Store) {
	s := store{open(t), t}
	m := s.push("vm", "layer", "v1")
	d := digest.FromString("layer")
	for _, repo := range []string{"", "..", "a/../b", "/a", "a/", "a//b", "A", "a~b", "a b", "a\x00", strings.Repeat("a", 300)} {
		for what, call := range map[string]func() error{
			"OpenBlob":         func() error { _, _, err := s.OpenBlob(repo, d); return err },
			"StatBlob":         func() error { _, err := s.StatBlob(repo, d); return err },
			"BlobSize":         func() error { _, err := s.BlobSize(repo, d); return err },
			"Mount":            func() error { _, err := s.Mount(repo, "vm", d); return err },
			"DeleteBlob":       func() error { return s.DeleteBlob(repo, d) },
			"NewUpload":        func() error { _, err := s.NewUpload(repo, ""); return err },
			"PutManifest":      func() error { return s.PutManifest(repo, m) },
			"Manifest":         func() error { _, err := s.Manifest(repo, m.Digest); return err },
			"Manifests":        func() error { _, err := s.Manifests(repo); return err },
			"DeleteManifest":   func() error { return s.DeleteManifest(repo, m.Digest) },
			"Referrers":        func() error { _, err := s.Referrers(repo, d, ""); return err },
			"PutTag":           func() error { return s.PutTag(repo, content.Tag{Name: "v1", Digest: m.Digest}) },
			"Tag":              func() error { _, err := s.Tag(repo, "v1"); return err },
			"Tags":             func() error { _, err := s.Tags(repo); return err },
			"ReadTags":         func() error { _, _, err := s.ReadTags(repo); return err },
			"DeleteTag":        func() error { return s.DeleteTag(repo, "v1") },
			"SetMeta":          func() error { return s.SetMeta(repo, content.Meta{}) },
			"DeleteRepository": func() error { return s.DeleteRepository(repo) },
			"Revert":           func() error { return s.Revert(repo, "v1") },
		} {
			s.refused(fmt.Sprintf("%s of %.20q", what, repo), call(), content.ErrNameInvalid)
		}
		if s.RepositoryExists(repo) {
			t.Errorf("%.20q exists", repo)
		}
	}
	for _, tag := range []string{"", "..", ".a", "-a", "a/b", "a b", d.String(), strings.Repeat("a", 129)} {
		s.refused("PutManifest "+tag, s.PutManifest("vm", m, "good", tag), content.ErrTagInvalid)
		s.refused("PutTag "+tag, s.PutTag("vm", content.Tag{Name: tag, Digest: m.Digest}), content.ErrTagInvalid)
		_, err := s.Tag("vm", tag)
		s.refused("Tag "+tag, err, content.ErrTagInvalid)
		s.refused("DeleteTag "+tag, s.DeleteTag("vm", tag), content.ErrTagInvalid)
	}
	for _, repo := range []string{"a", "team/sonoma-14.5", "a.b/c__d/e---f", strings.Repeat("a/", 100) + "b"} {
		s.push(repo, "layer", "v1")
	}
	names := []string{"v1", "V1", "v1.0_RC-2", "os:deps:8G-RAM", "vanilla+port-22", strings.Repeat("T", 128)}
	for _, tag := range names {
		s.ok(s.PutTag("vm", content.Tag{Name: tag, Digest: m.Digest}))
	}
	if got := s.tagged("vm"); got != strings.Join(names, " ") {
		t.Errorf("got tags %s", got)
	}
}

var blobs = map[string]func(*testing.T, store){
	"a blob is what was pushed": func(t *testing.T, s store) {
		for _, data := range []string{"", "some content"} {
			d := s.blob("vm", data)
			s.has("vm", data)
			f, size, err := s.OpenBlob("vm", d)
			s.ok(err)
			stat, err := s.StatBlob("vm", d)
			s.ok(err)
			recorded, err := s.BlobSize("vm", d)
			s.ok(err)
			if want := int64(len(data)); size != want || stat != want || recorded != want {
				t.Errorf("%q has sizes %d, %d and %d", data, size, stat, recorded)
			}
			if end, err := f.Seek(0, io.SeekEnd); err != nil || end != size {
				t.Errorf("%q ends at %d, %v", data, end, err)
			}
			at := make([]byte, len(data)/2)
			if _, err := f.ReadAt(at, size-int64(len(at))); err != nil && !errors.Is(err, io.EOF) || !strings.HasSuffix(data, string(at)) {
				t.Errorf("%q ends with %q, %v", data, at, err)
			}
			s.ok(f.Close())
			s.lacks("other", data)
		}
		s.lacks("vm", "never pushed")
	},
	"a blob is mounted": func(t *testing.T, s store) {
		d := s.blob("vm", "layer")
		for _, mount := range []struct{ repo, from string }{{"a", "vm"}, {"a", "vm"}, {"b", ""}} {
			if size, err := s.Mount(mount.repo, mount.from, d); err != nil || size != 5 {
				t.Errorf("mount %+v: %d, %v", mount, size, err)
			}
			s.has(mount.repo, "layer")
		}
		_, err := s.Mount("c", "nowhere", d)
		s.refused("mount from where it is not", err, content.ErrBlobUnknown)
		_, err = s.Mount("c", "", digest.FromString("never pushed"))
		s.refused("mount of what is nowhere", err, content.ErrBlobUnknown)
		s.lacks("c", "layer")
		s.ok(s.DeleteBlob("vm", d))
		s.collect() // the other repositories still have it, and none refers to it
		if _, err := s.Mount("c", "", d); !errors.Is(err, content.ErrBlobUnknown) {
			t.Errorf("mount of what was collected: %v", err)
		}
	},
	"a blob is deleted": func(t *testing.T, s store) {
		m := s.push("vm", "layer", "v1")
		d := digest.FromString("layer")
		_, err := s.Mount("other", "vm", d)
		s.ok(err)
		s.refused("delete of what a manifest names", s.DeleteBlob("vm", d), content.ErrInUse)
		s.has("vm", "layer")
		s.ok(s.DeleteManifest("vm", m.Digest))
		s.ok(s.DeleteBlob("vm", d))
		s.lacks("vm", "layer")
		s.has("other", "layer")
		s.refused("delete again", s.DeleteBlob("vm", d), content.ErrBlobUnknown)
	},
	"what is open stays readable": func(t *testing.T, s store) {
		data := strings.Repeat("0123456789", 20000)
		d := s.blob("vm", data)
		f, _, err := s.OpenBlob("vm", d)
		s.ok(err)
		defer f.Close()
		var got bytes.Buffer
		_, err = io.CopyN(&got, f, 1000)
		s.ok(err)
		s.ok(s.DeleteBlob("vm", d))
		s.collect()
		s.lacks("vm", data)
		if _, err := io.Copy(&got, f); err != nil || got.String() != data {
			t.Errorf("read %d of %d bytes, %v", got.Len(), len(data), err)
		}
	},
	"small content is put and read": func(t *testing.T, s store) {
		for range 2 {
			s.ok(content.PutBlob(s, "vm", digest.FromString("small"), []byte("small")))
		}
		s.has("vm", "small")
		s.refused("content of another digest", content.PutBlob(s, "vm", digest.FromString("x"), []byte("y")), content.ErrDigestMismatch)
		if left, err := s.Uploads(); err != nil || len(left) > 0 {
			t.Errorf("left: %+v, %v", left, err)
		}
	},
}
