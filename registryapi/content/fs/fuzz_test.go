package fs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// inside fails the test when a path leaves the directory.
func inside(t *testing.T, root, path, what string) {
	t.Helper()
	rel, err := filepath.Rel(root, path)
	if err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
		t.Errorf("%s leads to %s", what, path)
	}
}

func FuzzNamesStayInTheDirectory(f *testing.F) {
	for _, seed := range []string{
		"team/sonoma-14.5", "library/ubuntu", "a.b/c__d/e---f", "vanilla+port-forward-22+brew-git", "os:deps:8G-RAM", "V1.0_RC", "latest",
		"a/b", "../x", "a//b", "/a", "a/", "A", "v1:x+y", "..", ".", "a/../b", "a/./b", "a\\b", "%2e%2e%2f", "sha256:00", "SHA256:00", "a~b", "a!b",
		"a\x00", "a\n", "é", "ſ", strings.Repeat("a/", 200), strings.Repeat("a", 251), strings.Repeat("T", 128), strings.Repeat("T", 129), strings.Repeat(":", 128),
	} {
		f.Add(seed)
	}
	s := &Store{root: "/root"}
	f.Fuzz(func(t *testing.T, text string) {
		if oci.CheckRepository(text) == nil {
			path := s.repoPath(text)
			inside(t, "/root/repos", path, "repository "+text)
			if len(filepath.Base(path)) > 255 {
				t.Errorf("repository %q has a file name of %d bytes", text, len(filepath.Base(path)))
			}
			if back, ok := decodeRepository(filepath.Base(path)); !ok || back != text {
				t.Errorf("repository %q comes back as %q", text, back)
			}
		}
		if oci.CheckTag(text) == nil {
			path := s.tagPath("r", text)
			inside(t, "/root/repos/r/tags", path, "tag "+text)
			if base := filepath.Base(path); len(base) > 255 || base != encodeTag(text) {
				t.Errorf("tag %q has the file name %q", text, base)
			}
			if strings.EqualFold(encodeTag(text), encodeTag(strings.ToUpper(text))) && text != strings.ToUpper(text) {
				t.Errorf("tag %q and its upper case share a file", text)
			}
		}
	})
}

func FuzzDigest(f *testing.F) {
	empty := digest.FromString("").Encoded()
	for _, seed := range []string{
		"sha256:" + empty, digest.SHA512.FromString("x").String(), "sha256:" + strings.ToUpper(empty), "sha256:" + empty[1:], "sha256:" + empty + "0",
		"SHA256:" + empty, "sha384:" + strings.Repeat("0", 96), "md5:" + empty[:32], "sha256", "sha256:", ":", ":" + empty, "sha256::" + empty, "sha256:../../../etc/passwd",
		"sha256:" + strings.Repeat(".", 64), "sha256:" + strings.Repeat("/", 64), "sha256:" + empty + "\n", "sha256+b64:" + empty, "sha256:" + strings.Repeat("g", 64), "sha256%3A" + empty,
	} {
		f.Add(seed)
	}
	s := &Store{root: "/root"}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := oci.ParseDigest(text)
		if err != nil {
			if !errors.Is(err, content.ErrDigestInvalid) {
				t.Errorf("%q: got %v, want %v", text, err, content.ErrDigestInvalid)
			}
			return
		}
		if d.String() != text || len(d.Encoded()) != d.Algorithm().Size()*2 || strings.Trim(d.Encoded(), "0123456789abcdef") != "" {
			t.Errorf("accepted %q", text)
		}
		if oci.CheckTag(text) == nil {
			t.Errorf("%q is a digest and a tag", text)
		}
		for root, path := range map[string]string{
			"/root/blobs/" + d.Algorithm().String():         s.blobPath(d),
			"/root/repos/r/blobs/" + d.Algorithm().String(): s.linkPath("r", d),
			"/root/repos/r/manifests":                       s.manifestPath("r", d),
			"/root/repos/r/referrers":                       s.referrerPath("r", d, d),
		} {
			inside(t, root, path, "digest "+text)
		}
	})
}

// FuzzManifest begins with what clients push: the files of testdata/manifests
// are the shapes of the common ones.
func FuzzManifest(f *testing.F) {
	files, err := filepath.Glob("testdata/manifests/*.json")
	if err != nil || len(files) < 8 {
		f.Fatalf("%d seeds, %v", len(files), err)
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		var head struct{ MediaType string }
		if err := json.Unmarshal(raw, &head); err != nil {
			f.Fatal(err)
		}
		f.Add(head.MediaType, raw)
		f.Add("", raw)
	}
	f.Add("application/vnd.oci.image.manifest.v1+json", []byte(`{"config":{"digest":"sha256:00","size":-1},"layers":[{}]}`))
	f.Add("", []byte(`{"manifests":[{"digest":"sha512:../../x"}],"subject":{"digest":""}}`))
	f.Add("x", []byte(`null`))
	f.Add("", bytes.Repeat([]byte(`{"layers":[`), 1000))
	s := openTest(f, f.TempDir())
	for _, data := range []string{"", "{}"} { // what the seeds name
		if _, err := pushBlob(s, "vm", []byte(data)); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		c, err := content.ParseManifest(mediaType, raw)
		if err == nil {
			for _, d := range append(c.Blobs(), c.Manifests...) {
				if _, err := oci.ParseDigest(d.Digest.String()); err != nil || d.Size < -1 {
					t.Errorf("accepted descriptor %+v", d)
				}
			}
		}
		m := content.Manifest{Digest: digest.FromBytes(raw), MediaType: mediaType, Raw: raw}
		perr := s.PutManifest("vm", m, "t")
		if perr == nil && err != nil {
			t.Errorf("stored what cannot be read: %v", err)
		}
		if perr == nil {
			back, err := s.Manifest("vm", m.Digest)
			if err != nil || !bytes.Equal(back.Raw, raw) {
				t.Errorf("stored and got back %q, %v", back.Raw, err)
			}
			if err := content.Complete(s, "vm", back); err != nil {
				t.Errorf("stored though incomplete: %v", err)
			}
		} else if !errors.Is(perr, content.ErrManifestInvalid) && !errors.Is(perr, content.ErrBlobMissing) {
			t.Errorf("got %v", perr)
		}
	})
}

func FuzzCursor(f *testing.F) {
	s := openTest(f, f.TempDir())
	if _, err := pushImage(s, "vm", "v1", "x"); err != nil {
		f.Fatal(err)
	}
	_, here, _, err := s.Changes("", 10)
	if err != nil {
		f.Fatal(err)
	}
	epoch := readCursor(here).epoch
	for _, seed := range []string{
		"0", "", string(here), epoch + "-1-0", epoch + "-1-17", epoch + "-1-999999999999", epoch + "-2-0", epoch + "-0-0",
		"abc-1-2", "../x-1--5", "a-b-c", "--", epoch + "-1-9223372036854775807", epoch + "-9223372036854775808-1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, next, _, err := s.Changes(content.Cursor(text), 10)
		if err != nil {
			t.Errorf("cursor %q: %v", text, err)
		}
		// Whoever follows from there hears of the next change, or is told to
		// compare everything.
		if back := readCursor(next).cursor(); back != next {
			t.Errorf("cursor %q: the next is %q and is read as %q", text, next, back)
		}
		if next != here {
			t.Errorf("cursor %q leads to %q, the end is %q", text, next, here)
		}
	})
}

// FuzzUploadState damages what an upload has on disk: a server goes on with it,
// or does not know it, and never stores content under a digest it does not have.
func FuzzUploadState(f *testing.F) {
	s := openTest(f, f.TempDir())
	data := []byte("0123456789")
	u, err := newUpload(s)
	if err == nil {
		_, err = u.Append(bytes.NewReader(data))
	}
	if err == nil {
		err = u.Close()
	}
	good, rerr := os.ReadFile(filepath.Join(u.dir, "state"))
	if err := errors.Join(err, rerr, u.Cancel()); err != nil {
		f.Fatal(err)
	}
	f.Add(good, data)
	f.Add(good, data[:5])                                                              // data that is shorter than the state says
	f.Add(good, append(bytes.Clone(data), "more"...))                                  // and longer
	f.Add(bytes.Replace(good, []byte(`"offset":10`), []byte(`"offset":4`), 1), data)   // a hash of other bytes
	f.Add(bytes.Replace(good, []byte(`"offset":10`), []byte(`"offset":-1`), 1), data)  //
	f.Add(bytes.Replace(good, []byte(`sha256`), []byte(`sha512`), 1), data)            // a state of another hash
	f.Add(bytes.Replace(good, []byte(`"boot":"`), []byte(`"boot":"another`), 1), data) // after a reboot
	f.Add(bytes.Replace(good, []byte(`"repository":"vm"`), []byte(`"repository":".."`), 1), data)
	f.Add(good[:len(good)/2], data)
	f.Add([]byte(`{"repository":"vm","offset":1,"hash":"AA=="}`), data)
	f.Add([]byte(`{"repository":"vm","algorithm":"sha512","offset":-1}`), []byte{})
	f.Add([]byte(`null`), data)
	f.Fuzz(func(t *testing.T, state, data []byte) {
		u, err := newUpload(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		dir := u.dir
		defer os.RemoveAll(dir)
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "state"), state, 0o644), os.WriteFile(filepath.Join(dir, "data"), data, 0o644)); err != nil {
			t.Fatal(err)
		}
		v, err := s.OpenUpload(t.Context(), "vm", u.ID())
		if err != nil {
			if !errors.Is(err, content.ErrUploadUnknown) {
				t.Errorf("state %q: got %v, want %v", state, err, content.ErrUploadUnknown)
			}
			return
		}
		if v.Offset() < 0 || v.Offset() > int64(len(data)) {
			t.Errorf("state %q: offset %d of %d bytes", state, v.Offset(), len(data))
		}
		d := digest.FromBytes(append(bytes.Clone(data[:v.Offset()]), '!'))
		if _, err := v.Append(strings.NewReader("!")); err != nil {
			t.Errorf("state %q: append: %v", state, err)
		}
		if err := v.Commit(d); err != nil {
			if !errors.Is(err, content.ErrDigestMismatch) {
				t.Errorf("state %q: commit: %v", state, err)
			}
			_ = v.Cancel()
			return
		}
		blob, _, err := s.OpenBlob("vm", d)
		if err != nil {
			t.Fatal(err)
		}
		defer blob.Close()
		got, err := io.ReadAll(blob)
		if err != nil || digest.FromBytes(got) != d {
			t.Errorf("state %q: stored %q as %s, %v", state, got, d, err)
		}
	})
}
