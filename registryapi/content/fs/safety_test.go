package fs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// unreadable puts something at path that is there and cannot be read, as on a
// disk with errors: a link to itself. It returns what undoes that.
func unreadable(t *testing.T, path string) (restore func()) {
	t.Helper()
	aside := filepath.Join(t.TempDir(), "aside")
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Base(path), path); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
	}
}

// torn cuts a file in half and returns what mends it.
func torn(t *testing.T, path string) func() {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err == nil {
		// A new file: content must not be written in place.
		err = errors.Join(os.Remove(path), os.WriteFile(path, whole[:len(whole)/2], 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.WriteFile(path, whole, 0o644) }
}

// What cannot be read at present is not gone, nor is what a damaged file named:
// the collector removes nothing that it might be about, says so, and goes on
// with the other repositories.
func TestCollectRemovesNothingWhileSomethingCannotBeRead(t *testing.T) {
	t.Parallel()
	layer := digest.FromString("content")
	for name, broken := range map[string]func(s *Store, m content.Manifest) string{
		"manifest":          func(s *Store, m content.Manifest) string { return s.blobPath(m.Digest) },
		"manifest's record": func(s *Store, m content.Manifest) string { return s.manifestPath("vm", m.Digest) },
		"tag":               func(s *Store, m content.Manifest) string { return s.tagPath("vm", "v1") },
		"list of tags":      func(s *Store, m content.Manifest) string { return s.repoPath("vm", "tags") },
		"list of manifests": func(s *Store, m content.Manifest) string { return s.repoPath("vm", "manifests") },
		"list of blobs":     func(s *Store, m content.Manifest) string { return s.repoPath("vm", "blobs") },
		"blob's link":       func(s *Store, m content.Manifest) string { return s.linkPath("vm", layer) },
		"repository":        func(s *Store, m content.Manifest) string { return s.repoPath("vm") },
		"list of all":       func(s *Store, m content.Manifest) string { return filepath.Join(s.root, "repos") },

		"tag, torn":               func(s *Store, m content.Manifest) string { return s.tagPath("vm", "v1") },
		"manifest, torn":          func(s *Store, m content.Manifest) string { return s.blobPath(m.Digest) },
		"manifest's record, torn": func(s *Store, m content.Manifest) string { return s.manifestPath("vm", m.Digest) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openTest(t, t.TempDir())
			m := mustPush(t, s, "vm", "v1", "content")
			if _, err := pushBlob(s, "zz", []byte("garbage")); err != nil {
				t.Fatal(err)
			}
			age(t, s, 3*time.Hour)
			harm := unreadable
			if strings.HasSuffix(name, "torn") {
				harm = torn
			}
			restore := harm(t, broken(s, m))
			for range 2 {
				_, err := s.Collect(t.Context(), content.CollectOptions{Grace: time.Hour, KeepUntagged: time.Hour})
				if err == nil && name != "blob's link" { // that one is not needed to tell
					t.Error("the collector said nothing")
				}
			}
			restore()
			got, err := content.Resolve(s, "vm", "v1")
			if err != nil || got.Digest != m.Digest {
				t.Fatalf("tag: got %s, %v", got.Digest, err)
			}
			found, err := s.Manifest("vm", m.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := content.Complete(s, "vm", found); err != nil {
				t.Fatal(err)
			}
			if name != "list of all" && fileSize(s.linkPath("zz", digest.FromString("garbage"))) >= 0 {
				t.Error("the garbage of another repository is still there")
			}
		})
	}
}

// A store whose repositories have vanished, as under a file system that is not
// mounted any more, is an error and not an empty store.
func TestStoreThatVanishedIsNotEmpty(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	mustPush(t, s, "vm", "v1", "content")
	age(t, s, 3*time.Hour)
	if err := os.Rename(filepath.Join(s.root, "repos"), filepath.Join(s.root, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if repos, err := s.Repositories(); err == nil {
		t.Errorf("repositories: got %q and no error", repos)
	}
	if tags, err := s.Tags("vm"); err == nil {
		t.Errorf("tags: got %v and no error", tags)
	}
	if got, err := s.Collect(t.Context(), content.CollectOptions{Grace: time.Hour}); err == nil || got != (content.Collected{}) {
		t.Errorf("collect: got %+v, %v", got, err)
	}
	if fileSize(s.blobPath(digest.FromString("content"))) < 0 {
		t.Error("the content was removed")
	}
}

// Trouble with the disk is told as such: a client that hears that there is no
// such blob gives up, or takes it for deleted.
func TestUnreadableContentIsNotUnknown(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	m := mustPush(t, s, "vm", "v1", "content")
	layer := digest.FromString("content")
	unreadable(t, s.linkPath("vm", layer))
	absent := func(err error) bool {
		return errors.Is(err, content.ErrBlobUnknown) || errors.Is(err, content.ErrManifestUnknown) || errors.Is(err, content.ErrBlobMissing)
	}
	if err := content.Complete(s, "vm", m); err == nil || absent(err) {
		t.Errorf("complete: got %v", err)
	}
	if err := s.PutManifest("vm", m, "v2"); err == nil || absent(err) {
		t.Errorf("push of the manifest: got %v", err)
	}
	if _, err := s.Mount("other", "vm", layer); err == nil || absent(err) {
		t.Errorf("mount: got %v", err)
	}
}

// A template whose files are damaged can be deleted like any other.
func TestDamagedRepositoryIsDeleted(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	mustPush(t, s, "vm", "v1", "one")
	m := mustPush(t, s, "vm", "v2", "two")
	for _, path := range []string{s.tagPath("vm", "v1"), s.manifestPath("vm", m.Digest)} {
		if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRepository("vm"); err != nil {
		t.Fatal(err)
	}
	age(t, s, 3*time.Hour)
	for range 2 {
		if _, err := s.Collect(t.Context(), content.CollectOptions{Grace: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if s.RepositoryExists("vm") {
		t.Error("the repository is still there")
	}
}

// So can one damaged manifest, which the collector then no longer waits for.
func TestDamagedManifestIsDeleted(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	mustPush(t, s, "vm", "v1", "one")
	m := mustPush(t, s, "vm", "v2", "two")
	torn(t, s.blobPath(m.Digest))
	age(t, s, 3*time.Hour)
	if _, err := s.Collect(t.Context(), content.CollectOptions{Grace: time.Hour}); err == nil {
		t.Fatal("the collector said nothing of a damaged manifest")
	}
	if err := s.DeleteManifest("vm", m.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := content.Resolve(s, "vm", "v2"); !errors.Is(err, content.ErrTagUnknown) {
		t.Errorf("its tag: got %v, want that it is gone too", err)
	}
	age(t, s, 3*time.Hour)
	if done, err := s.Collect(t.Context(), content.CollectOptions{Grace: time.Hour}); err != nil || done.Links != 1 {
		t.Errorf("collected %+v, %v, want the link of its content", done, err)
	}
	if _, err := content.Resolve(s, "vm", "v1"); err != nil {
		t.Error(err)
	}
}

// A flush that failed is told once: the kernel may have dropped what it could
// not write and takes the rest for clean. The upload goes on from the last flush
// that succeeded, and never from what was received since.
func TestFailedFlushLosesWhatItWasToKeep(t *testing.T) {
	t.Parallel()
	first, second := []byte("flushed "), []byte("and not flushed")
	whole := digest.FromBytes(append(bytes.Clone(first), second...))
	for name, end := range map[string]func(u content.Upload) error{
		"at the end of a request": func(u content.Upload) error { return u.Close() },
		"at the commit":           func(u content.Upload) error { return errors.Join(u.Commit(whole), u.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openTest(t, t.TempDir())
			u, err := s.NewUpload("vm", "")
			if err != nil {
				t.Fatal(err)
			}
			id := u.ID()
			appendAll(t, u, first)
			if err := u.Close(); err != nil {
				t.Fatal(err)
			}
			if u, err = s.OpenUpload(t.Context(), "vm", id); err != nil {
				t.Fatal(err)
			}
			appendAll(t, u, second)
			fail := true
			s.sync = func(f *os.File) error {
				if fail {
					fail = false
					return syscall.EIO
				}
				return f.Sync()
			}
			if err := end(u); !errors.Is(err, syscall.EIO) {
				t.Errorf("got %v, want the disk's error", err)
			}
			if _, err := u.Append(bytes.NewReader(second)); err == nil {
				t.Error("what failed took more data")
			}
			if err := u.Commit(whole); err == nil {
				t.Error("what failed was committed")
			}
			if u, err = s.OpenUpload(t.Context(), "vm", id); err != nil {
				t.Fatal(err)
			}
			if u.Offset() != int64(len(first)) {
				t.Fatalf("offset after the failure: got %d, want %d", u.Offset(), len(first))
			}
			appendAll(t, u, second)
			if err := u.Commit(whole); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func appendAll(t *testing.T, u content.Upload, data []byte) {
	t.Helper()
	if _, err := u.Append(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

// Content that was pushed again while its damaged file was read is not put away
// for it.
func TestVerifyPutsAwayOnlyWhatItRead(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	m := mustPush(t, s, "vm", "v1", "content")
	path := s.blobPath(digest.FromString("content"))
	if err := os.WriteFile(path, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	v, err := s.Verify(t.Context(), VerifyOptions{
		Quarantine: true,
		Fetch: func(context.Context, string, digest.Digest, bool) error {
			_, err := pushBlob(s, "vm", []byte("content")) // by a client, meanwhile
			return errors.Join(err, errors.New("nobody has it"))
		},
	})
	if err != nil || len(v.Damage) != 1 {
		t.Fatalf("damaged: got %+v, %v", v.Damage, err)
	}
	if err := content.Complete(s, "vm", m); err != nil {
		t.Errorf("after the push: %v (%+v)", err, v.Damage)
	}
}

// Servers that begin at once on a directory agree on what store it is, and so
// does one that comes later; another directory is another store.
func TestStoreHasOneID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := make(chan string)
	const servers = 8
	for range servers {
		go func() {
			s, err := Open(dir, Limits{})
			if err != nil {
				t.Error(err)
				ids <- ""
				return
			}
			ids <- s.ID()
		}()
	}
	want := ""
	for range servers {
		got := <-ids
		if want == "" {
			want = got
		}
		if got == "" || got != want {
			t.Errorf("one server knows the store as %q, another as %q", got, want)
		}
	}
	if later := openTest(t, dir).ID(); later != want {
		t.Errorf("opened later it is %q, want %q", later, want)
	}
	if other := openTest(t, t.TempDir()).ID(); other == want {
		t.Error("another directory is the same store")
	}
}
