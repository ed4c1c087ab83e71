package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// age makes every file of a store older.
func age(t *testing.T, s *Store, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	err := filepath.WalkDir(s.root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chtimes(path, then, then)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCollectKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	tagged := mustPush(t, s, "vm", "v1", "tagged")
	old := mustPush(t, s, "vm", "moved", "old content")
	mustPush(t, s, "vm", "moved", "new content")
	if _, err := pushBlob(s, "vm", []byte("never named")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mount("other", "vm", digest.FromString("tagged")); err != nil {
		t.Fatal(err)
	}
	signature := signatureOf(t, s, "vm", tagged)
	signatureOfOld := signatureOf(t, s, "vm", old)
	child := mustPush(t, s, "vm", "", "child of an index")
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ispec.MediaTypeImageManifest, child.Digest, len(child.Raw))
	index := content.Manifest{Digest: digest.FromBytes(raw), MediaType: ispec.MediaTypeImageIndex, Raw: raw}
	if err := s.PutManifest("vm", index, "index"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteManifest("vm", child.Digest); !errors.Is(err, content.ErrInUse) {
		t.Errorf("deleting an index's manifest: got %v", err)
	}
	age(t, s, 3*time.Hour)
	opt := content.CollectOptions{Grace: time.Hour, KeepUntagged: time.Hour, DryRun: true}
	dry, err := s.Collect(t.Context(), opt)
	if err != nil || dry.Blobs+dry.Links+dry.Manifests == 0 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if _, err := s.Manifest("vm", old.Digest); err != nil {
		t.Fatal("a dry run removed something")
	}
	opt.DryRun = false
	for range 2 { // the second has what the first made free, after its grace
		if _, err := s.Collect(t.Context(), opt); err != nil {
			t.Fatal(err)
		}
		age(t, s, 3*time.Hour)
	}
	for name, m := range map[string]content.Manifest{"tagged": tagged, "signature": signature, "index": index, "child": child} {
		if _, err := s.Manifest("vm", m.Digest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, m := range map[string]content.Manifest{"moved tag's old": old, "its signature": signatureOfOld} {
		if _, err := s.Manifest("vm", m.Digest); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	for content, want := range map[string]bool{"tagged": true, "new content": true, "child of an index": true, "old content": false, "never named": false} {
		_, _, err := s.OpenBlob("vm", digest.FromString(content))
		if (err == nil) != want || (fileSize(s.blobPath(digest.FromString(content))) >= 0) != want {
			t.Errorf("%q: got %v, want it %t", content, err, want)
		}
	}
	if _, _, err := s.OpenBlob("other", digest.FromString("tagged")); err == nil {
		t.Error("a link that no manifest needs is still there")
	}
	if s.RepositoryExists("other") {
		t.Error("an empty repository is still there")
	}
	v, err := s.Verify(t.Context(), VerifyOptions{})
	if err != nil || len(v.Damage) != 0 {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

func signatureOf(t *testing.T, s *Store, repo string, m content.Manifest) content.Manifest {
	t.Helper()
	config, err := pushBlob(s, repo, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"sig","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		config, m.MediaType, m.Digest, len(m.Raw))
	sig := content.Manifest{Digest: digest.FromBytes(raw), MediaType: ispec.MediaTypeImageManifest, Raw: raw}
	if err := s.PutManifest(repo, sig); err != nil {
		t.Fatal(err)
	}
	return sig
}

// A client that is told that old, unreferenced content is there relies on it.
func TestContentAskedForIsKept(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	config, layer := []byte("{}"), []byte("layer of a deleted template")
	for _, data := range [][]byte{config, layer} {
		if _, err := pushBlob(s, "vm", data); err != nil {
			t.Fatal(err)
		}
	}
	age(t, s, 3*time.Hour)
	for _, data := range [][]byte{config, layer} {
		if _, err := s.StatBlob("vm", digest.FromBytes(data)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Collect(t.Context(), content.CollectOptions{Grace: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutManifest("vm", imageOf(config, layer), "v1"); err != nil {
		t.Errorf("the push that relied on it: %v", err)
	}
}

func TestOneCollectorAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, dir)
	held, err := lockFile(filepath.Join(dir, "locks", "gc"), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collect(t.Context(), content.CollectOptions{}); !errors.Is(err, content.ErrCollecting) {
		t.Errorf("got %v, want %v", err, content.ErrCollecting)
	}
	held.Close()
	if _, err := s.Collect(t.Context(), content.CollectOptions{}); err != nil {
		t.Error(err)
	}
}

// One server collects while another pushes content that was garbage a moment
// ago, deletes it and pushes it again.
func TestCollectBesidePushes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pusher, collector := openTest(t, dir), openTest(t, dir)
	for round := range 20 {
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := collector.Collect(t.Context(), content.CollectOptions{Grace: time.Hour, KeepUntagged: time.Hour}); err != nil {
				t.Errorf("collect: %v", err)
			}
		})
		m := mustPush(t, pusher, "vm", "v1", "the same content")
		wg.Wait()
		if err := content.Complete(pusher, "vm", m); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := pusher.DeleteManifest("vm", m.Digest); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		age(t, pusher, 3*time.Hour) // it is garbage now
	}
}
