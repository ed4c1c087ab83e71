package fs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// OpenBlob implements content.Blobs. A half-copied file has a wrong size, and counts
// as absent.
func (s *Store) OpenBlob(repo string, d digest.Digest) (content.Blob, int64, error) {
	want, err := s.BlobSize(repo, d)
	if err != nil {
		return nil, 0, err
	}
	f, err := open(s.blobPath(d))
	if err != nil {
		if notExist(err) {
			return nil, 0, fmt.Errorf("%w: %s: the link is there but the content is not", content.ErrBlobUnknown, d)
		}
		return nil, 0, ioError(err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != want {
		err = fmt.Errorf("%w: %s: content has %d of %d bytes", content.ErrBlobUnknown, d, info.Size(), want)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, want, nil
}

// StatBlob implements content.Blobs.
func (s *Store) StatBlob(repo string, d digest.Digest) (int64, error) {
	f, size, err := s.OpenBlob(repo, d)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	now := time.Now()
	link := s.linkPath(repo, d)
	if info, err := os.Stat(link); err == nil {
		touch(link, info, now)
	}
	return size, nil
}

// Mount implements content.Blobs.
func (s *Store) Mount(repo, from string, d digest.Digest) (int64, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return 0, err
	}
	lock, err := s.lockCommit(false)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if from == "" {
		if fileSize(s.blobPath(d)) < 0 { // spares a look at every repository
			return 0, fmt.Errorf("%w: %s", content.ErrBlobUnknown, d)
		}
		if from, err = s.anyRepositoryWith(d); err != nil {
			return 0, err
		}
		if from == "" {
			return 0, fmt.Errorf("%w: %s", content.ErrBlobUnknown, d)
		}
	}
	size, err := s.StatBlob(from, d)
	if err != nil {
		return 0, err
	}
	return size, s.link(repo, d, size)
}

func (s *Store) anyRepositoryWith(d digest.Digest) (string, error) {
	repos, err := s.Repositories()
	if err != nil {
		return "", err
	}
	for _, r := range repos {
		if _, err := s.StatBlob(r, d); err == nil {
			return r, nil
		}
	}
	return "", nil
}

// DeleteBlob implements content.Blobs.
func (s *Store) DeleteBlob(repo string, d digest.Digest) error {
	if _, err := s.BlobSize(repo, d); err != nil {
		return err
	}
	lock, err := s.lockCommit(true) // no manifest may gain a reference meanwhile
	if err != nil {
		return err
	}
	defer lock.Close()
	used, _, err := s.references(repo)
	if err != nil {
		return err
	}
	if m, ok := used[d]; ok {
		return fmt.Errorf("%w: blob %s by manifest %s", content.ErrInUse, d, m)
	}
	_, err = remove(s.linkPath(repo, d))
	return err
}

func (s *Store) linkPath(repo string, d digest.Digest) string {
	return s.repoPath(repo, "blobs", digestPath(d))
}

// link records that repo may serve d. The caller holds the commit lock.
func (s *Store) link(repo string, d digest.Digest, size int64) error {
	path := s.linkPath(repo, d)
	if have, err := s.BlobSize(repo, d); err == nil && have == size {
		now := time.Now()
		if os.Chtimes(path, now, now) == nil {
			return nil
		}
	}
	return s.writeFile(path, []byte(strconv.FormatInt(size, 10)))
}

func (s *Store) BlobSize(repo string, d digest.Digest) (int64, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return 0, err
	}
	data, err := readFile(s.linkPath(repo, d))
	if notExist(err) {
		return 0, fmt.Errorf("%w: %s", content.ErrBlobUnknown, d)
	}
	if err != nil {
		return 0, ioError(err)
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || size < 0 {
		return 0, fmt.Errorf("%w: %s: its link is damaged", content.ErrBlobUnknown, d)
	}
	return size, nil
}

// fileSize is a file's size, or -1.
func fileSize(path string) int64 {
	f, err := open(path)
	if err != nil {
		return -1
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return -1
	}
	return info.Size()
}

// fileTime is a file's time, or zero.
func fileTime(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
