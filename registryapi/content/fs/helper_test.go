package fs

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

func openTest(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pushBlob(s *Store, repo string, data []byte) (digest.Digest, error) {
	u, err := s.NewUpload(repo, "")
	if err != nil {
		return "", err
	}
	if _, err := u.Append(bytes.NewReader(data)); err != nil {
		return "", err
	}
	d := digest.FromBytes(data)
	return d, u.Commit(d)
}

// imageOf is a manifest with one layer.
func imageOf(config, layer []byte) content.Manifest {
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"c","digest":%q,"size":%d},"layers":[{"mediaType":"l","digest":%q,"size":%d}]}`,
		digest.FromBytes(config), len(config), digest.FromBytes(layer), len(layer))
	return content.Manifest{Digest: digest.FromBytes(raw), MediaType: ispec.MediaTypeImageManifest, Raw: raw}
}

func pushImage(s *Store, repo, tag, data string) (content.Manifest, error) {
	config, layer := []byte("{}"), []byte(data)
	for _, blob := range [][]byte{config, layer} {
		if _, err := pushBlob(s, repo, blob); err != nil {
			return content.Manifest{}, err
		}
	}
	m := imageOf(config, layer)
	var tags []string
	if tag != "" {
		tags = []string{tag}
	}
	return m, s.PutManifest(repo, m, tags...)
}

func mustPush(t *testing.T, s *Store, repo, tag, data string) content.Manifest {
	t.Helper()
	m, err := pushImage(s, repo, tag, data)
	if err != nil {
		t.Fatalf("push %s:%s: %v", repo, tag, err)
	}
	return m
}

// newUpload is Store.NewUpload with what only this package sees.
func newUpload(s *Store) (*upload, error) {
	u, err := s.NewUpload("vm", digest.SHA256)
	own, _ := u.(*upload)
	return own, err
}
