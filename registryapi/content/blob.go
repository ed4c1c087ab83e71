package content

import (
	"bytes"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// PutBlob stores small content under its digest, so that the repository may
// serve it. Content that is there already is kept from the collector.
func PutBlob(s Store, repo string, d digest.Digest, data []byte) error {
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

// ReadBlob returns all of a blob that the repository may serve, verified. It
// is for small ones.
func ReadBlob(s Blobs, repo string, d digest.Digest) ([]byte, error) {
	f, size, err := s.OpenBlob(repo, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, err
	}
	if d.Algorithm().FromBytes(data) != d {
		err = fmt.Errorf("%w: %s: its content is damaged", ErrBlobUnknown, d)
	}
	return data, err
}
