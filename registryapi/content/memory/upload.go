package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// upload is an unfinished blob. Its turn is held by the writer that has it open.
type upload struct {
	id, repo string
	started  time.Time
	turn     chan struct{} // capacity 1

	mu        sync.Mutex
	data      []byte    // grows, and is never changed otherwise; guarded by mu
	updated   time.Time // guarded by mu
	interrupt func()    // of the writer; guarded by mu
	ended     bool      // guarded by mu
}

// writer is an upload that a request holds.
type writer struct {
	*upload
	s        *Store
	overtook bool
	closed   bool
}

// NewUpload implements content.Uploads.
func (s *Store) NewUpload(repo string, alg digest.Algorithm) (content.Upload, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return nil, err
	}
	if alg != "" && alg != digest.SHA256 && alg != digest.SHA512 {
		return nil, fmt.Errorf("%w: algorithm %.32q is not supported", content.ErrDigestInvalid, alg)
	}
	u := &upload{id: uuid.NewString(), repo: repo, started: time.Now(), turn: make(chan struct{}, 1)}
	u.updated = u.started
	u.turn <- struct{}{}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploads[u.id] = u
	return &writer{upload: u, s: s}, nil
}

// OpenUpload implements content.Uploads.
func (s *Store) OpenUpload(ctx context.Context, repo, id string) (content.Upload, error) {
	s.mu.Lock()
	u := s.uploads[id]
	s.mu.Unlock()
	if u == nil || u.repo != repo {
		return nil, fmt.Errorf("%w: %.64q", content.ErrUploadUnknown, id)
	}
	w := &writer{upload: u, s: s}
	for held := false; !held; {
		select {
		case u.turn <- struct{}{}:
			held = true
			continue
		default:
		}
		w.overtook = u.stop() || w.overtook
		select {
		case u.turn <- struct{}{}:
			held = true
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s", content.ErrUploadBusy, id)
		case <-time.After(5 * time.Millisecond): // it may only now have said how it is interrupted
		}
	}
	if u.Ended() {
		w.release()
		return nil, fmt.Errorf("%w: %s", content.ErrUploadUnknown, id)
	}
	return w, nil
}

// stop asks the writer to stop, and reports whether it could be asked.
func (u *upload) stop() bool {
	u.mu.Lock()
	f := u.interrupt
	u.mu.Unlock()
	if f != nil {
		f()
	}
	return f != nil
}

// ID implements content.Upload.
func (u *upload) ID() string { return u.id }

// Size implements content.Growing.
func (u *upload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return int64(len(u.data))
}

// ReadAt implements content.Growing.
func (u *upload) ReadAt(p []byte, off int64) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if off < 0 || off > int64(len(u.data)) {
		return 0, io.EOF
	}
	n := copy(p, u.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Ended implements content.Growing.
func (u *upload) Ended() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ended
}

// Offset implements content.Upload.
func (w *writer) Offset() int64 { return w.Size() }

// Overtook implements content.Upload.
func (w *writer) Overtook() bool { return w.overtook }

// OnInterrupt implements content.Upload.
func (w *writer) OnInterrupt(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupt = f
}

// Append implements content.Upload.
func (w *writer) Append(r io.Reader) (total int64, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		w.mu.Lock()
		w.data, w.updated = append(w.data, buf[:n]...), time.Now()
		w.mu.Unlock()
		total += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// Commit implements content.Upload.
func (w *writer) Commit(d digest.Digest) error {
	if got := d.Algorithm().FromBytes(w.data); got != d {
		return fmt.Errorf("%w: %d bytes have %s, not %s", content.ErrDigestMismatch, len(w.data), got, d)
	}
	w.s.change.Lock()
	defer w.s.change.Unlock()
	now := time.Now()
	w.s.alter(w.repo, func(r *repository) {
		w.s.blobs[d] = &blob{w.data, now}
		r.blobs[d] = now
	})
	return w.Cancel()
}

// Cancel implements content.Upload.
func (w *writer) Cancel() error {
	w.s.mu.Lock()
	delete(w.s.uploads, w.id)
	w.s.mu.Unlock()
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	return w.Close()
}

// Close implements content.Upload.
func (w *writer) Close() error {
	if !w.closed {
		w.release()
	}
	return nil
}

func (w *writer) release() {
	w.closed = true
	w.OnInterrupt(nil)
	<-w.turn
}

// growing is an upload that is read.
type growing struct{ *upload }

func (growing) Close() error { return nil }

// Growing implements content.Uploads.
func (s *Store) Growing(id string) (content.Growing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uploads[id]
	if u == nil {
		return nil, fs.ErrNotExist
	}
	return growing{u}, nil
}

// Uploads implements content.Uploads.
func (s *Store) Uploads() ([]content.UploadInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []content.UploadInfo
	for _, u := range s.uploads {
		u.mu.Lock()
		all = append(all, content.UploadInfo{ID: u.id, Repository: u.repo, Offset: int64(len(u.data)), Started: u.started, Updated: u.updated})
		u.mu.Unlock()
	}
	return all, nil
}

// PurgeUploads implements content.Uploads.
func (s *Store) PurgeUploads(before time.Time) (int, error) {
	all, _ := s.Uploads()
	purged := 0
	for _, info := range all {
		if !info.Updated.Before(before) {
			continue
		}
		s.mu.Lock()
		u := s.uploads[info.ID]
		s.mu.Unlock()
		if u == nil {
			continue
		}
		select {
		case u.turn <- struct{}{}:
			if !u.Ended() {
				purged++
			}
			_ = (&writer{upload: u, s: s}).Cancel()
		default: // in use
		}
	}
	return purged, nil
}

// CheckSpace implements content.Uploads: there are no limits.
func (s *Store) CheckSpace(int64) error { return nil }

// Disk implements content.Uploads.
func (s *Store) Disk() (free, total uint64, err error) { return 1 << 40, 1 << 40, nil }
