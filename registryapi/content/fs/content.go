package fs

import (
	"bytes"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// PutBlob stores small content under its digest, so that the repository may
// serve it. Content that is there already is kept from the collector.
func (s *Store) PutBlob(repo string, d digest.Digest, data []byte) error {
	if size, err := s.StatBlob(repo, d); err == nil && size == int64(len(data)) {
		return nil
	}
	u, err := s.NewUpload(repo, d.Algorithm())
	if err != nil {
		return err
	}
	if _, err = u.Append(bytes.NewReader(data)); err == nil {
		err = u.Commit(d)
	}
	if err != nil {
		_ = u.Cancel()
	}
	return err
}

// ReadContent returns all of a blob that the repository may serve, verified. It
// is for small ones.
func (s *Store) ReadContent(repo string, d digest.Digest) ([]byte, error) {
	f, _, err := s.OpenBlob(repo, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readAll(f)
	if err == nil && d.Algorithm().FromBytes(data) != d {
		err = fmt.Errorf("%w: %s: its content is damaged", ErrBlobUnknown, d)
	}
	return data, err
}
