package storage

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// inside fails the test when a path leaves the directory.
func inside(t *testing.T, root, path, what string) {
	t.Helper()
	rel, err := filepath.Rel(root, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		t.Errorf("%s leads to %s", what, path)
	}
}

func FuzzNamesStayInTheDirectory(f *testing.F) {
	for _, seed := range []string{"a/b", "../x", "a//b", "A", "v1:x+y", "..", ".", "sha256:00", "a~b", "a\x00", "é", strings.Repeat("a/", 200)} {
		f.Add(seed)
	}
	s := &Store{root: "/root"}
	f.Fuzz(func(t *testing.T, text string) {
		if CheckRepository(text) == nil {
			path := s.repoPath(text)
			inside(t, "/root/repos", path, "repository "+text)
			if back, ok := decodeRepository(filepath.Base(path)); !ok || back != text {
				t.Errorf("repository %q comes back as %q", text, back)
			}
		}
		if CheckTag(text) == nil {
			path := s.tagPath("r", text)
			inside(t, "/root/repos/r/tags", path, "tag "+text)
			if base := filepath.Base(path); len(base) > 255 || base != encodeTag(text) {
				t.Errorf("tag %q has the file name %q", text, base)
			}
			if strings.EqualFold(encodeTag(text), encodeTag(strings.ToUpper(text))) && text != strings.ToUpper(text) {
				t.Errorf("tag %q and its upper case share a file", text)
			}
		}
		if d, err := ParseDigest(text); err == nil {
			inside(t, "/root/blobs", s.blobPath(d), "digest "+text)
			if CheckTag(text) == nil {
				t.Errorf("%q is a digest and a tag", text)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add("application/vnd.oci.image.manifest.v1+json", []byte(`{"config":{"digest":"sha256:00","size":-1},"layers":[{}]}`))
	f.Add("", []byte(`{"manifests":[{"digest":"sha512:../../x"}],"subject":{"digest":""}}`))
	f.Add("x", []byte(`null`))
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		c, err := ParseManifest(mediaType, raw)
		if err != nil {
			return
		}
		for _, d := range append(c.Blobs(), c.Manifests...) {
			if _, err := ParseDigest(d.Digest.String()); err != nil || d.Size < 0 {
				t.Errorf("accepted descriptor %+v", d)
			}
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add("0")
	f.Add("abc-1-2")
	f.Add("../x-1--5")
	s := openTest(f, f.TempDir())
	if _, err := pushImage(s, "vm", "v1", "x"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, _, err := s.Changes(ParseCursor(text), 10); err != nil {
			t.Errorf("cursor %q: %v", text, err)
		}
	})
}

func FuzzUploadState(f *testing.F) {
	f.Add([]byte(`{"repository":"vm","offset":1,"hash":"AA=="}`))
	f.Add([]byte(`{"repository":"vm","algorithm":"sha512","offset":-1}`))
	s := openTest(f, f.TempDir())
	f.Fuzz(func(t *testing.T, state []byte) {
		u, err := s.NewUpload("vm", digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.WriteFile(filepath.Join(u.dir, "state"), state); err != nil {
			t.Fatal(err)
		}
		if v, err := s.OpenUpload(t.Context(), "vm", u.ID()); err == nil {
			u = v
		}
		_ = u.Cancel()
	})
}
