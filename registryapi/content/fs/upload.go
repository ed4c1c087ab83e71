package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// checkpointEvery is how many bytes an upload takes before its offset is made
// durable. After a power failure at most so much is sent again; after the death
// of a process alone, nothing.
const checkpointEvery = 256 << 20

// Upload is an unfinished blob: data, offset and hash state in a directory that
// any server may go on with. Whoever has an *upload holds its lock. It is not
// safe for concurrent use.
type upload struct {
	s      *Store
	id     string
	repo   string
	dir    string
	lock   *os.File
	data   *os.File
	sum    *runningHash
	offset int64 // bytes written and hashed
	synced int64 // bytes known to be on stable storage
	lost   bool  // a flush failed: the upload can only be opened anew
	// overtook: another request was writing, and was interrupted for this one.
	overtook bool
	// interrupt, set by the request that writes, makes it give up its lock to
	// a newer request for the same upload.
	interrupt func()
	released  chan struct{}
}

// NewUpload implements content.Uploads.
func (s *Store) NewUpload(repo string, alg digest.Algorithm) (content.Upload, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return nil, err
	}
	if err := s.checkSpace(0); err != nil {
		return nil, err
	}
	sum, err := newRunningHash(alg)
	if err != nil {
		return nil, err
	}
	id := uuid.NewString()
	dir := filepath.Join(s.root, "uploads", id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, ioError(err)
	}
	u := &upload{s: s, id: id, repo: repo, dir: dir, sum: sum}
	err = u.open(true)
	if err == nil {
		err = u.saveState()
	}
	if err != nil {
		u.drop()
		return nil, ioError(err)
	}
	return u, nil
}

// OpenUpload implements content.Uploads. Whether another server holds it, its lock
// tells.
func (s *Store) OpenUpload(ctx context.Context, repo, id string) (content.Upload, error) {
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
		return nil, fmt.Errorf("%w: %.64q", content.ErrUploadUnknown, id)
	}
	u := &upload{s: s, id: id, repo: repo, dir: filepath.Join(s.root, "uploads", id)}
	if !revalidate(u.dir) {
		return nil, fmt.Errorf("%w: %s", content.ErrUploadUnknown, id)
	}
	if err := u.waitLock(ctx); err != nil {
		return nil, err
	}
	if err := u.open(false); err != nil {
		u.release()
		return nil, err
	}
	st, err := u.loadState()
	if err == nil && st.Repository != repo {
		err = fmt.Errorf("%w: %s in repository %s", content.ErrUploadUnknown, id, repo)
	}
	if err == nil {
		err = u.recover(st)
	}
	if err != nil {
		u.release()
		return nil, ioError(err)
	}
	return u, nil
}

// lockPace is that of looking whether another server's request has ended.
var lockPace = backoff.Pace{Min: 5 * time.Millisecond, Max: 250 * time.Millisecond}

func (u *upload) waitLock(ctx context.Context) error {
	for tries := 0; ; tries++ {
		lock, err := tryLockFile(filepath.Join(u.dir, "lock"))
		if notExist(err) {
			return fmt.Errorf("%w: %s", content.ErrUploadUnknown, u.id)
		}
		if err != nil {
			return err
		}
		if lock != nil {
			u.lock = lock
			return nil
		}
		released := u.s.interruptWriter(u.id)
		u.overtook = u.overtook || released != nil
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", content.ErrUploadBusy, u.id)
		case <-released:
		case <-time.After(lockPace.Next(tries)):
		}
	}
}

// open opens the data file; the lock is taken already unless the upload is new.
func (u *upload) open(isNew bool) (err error) {
	flags := os.O_RDWR
	if isNew {
		flags |= os.O_CREATE | os.O_EXCL
		if u.lock, err = lockFile(filepath.Join(u.dir, "lock"), true); err != nil {
			return err
		}
	}
	u.data, err = os.OpenFile(filepath.Join(u.dir, "data"), flags, 0o644)
	if notExist(err) { // finished while we waited for the lock
		return fmt.Errorf("%w: %s", content.ErrUploadUnknown, u.id)
	}
	return err
}

// ID implements content.Upload.
func (u *upload) ID() string { return u.id }

// Overtook implements content.Upload.
func (u *upload) Overtook() bool { return u.overtook }

// Offset implements content.Upload.
func (u *upload) Offset() int64 { return u.offset }

// OnInterrupt implements content.Upload.
func (u *upload) OnInterrupt(f func()) {
	u.s.activeMu.Lock()
	defer u.s.activeMu.Unlock()
	u.interrupt, u.released = f, make(chan struct{})
	u.s.active[u.id] = u
}

func (s *Store) interruptWriter(id string) <-chan struct{} {
	s.activeMu.Lock()
	u := s.active[id]
	var f func()
	var released chan struct{}
	if u != nil {
		f, released = u.interrupt, u.released
	}
	s.activeMu.Unlock()
	if f != nil {
		f()
	}
	return released
}

// Append implements content.Upload.
func (u *upload) Append(r io.Reader) (int64, error) {
	if u.lost {
		return 0, errLost
	}
	n, err := u.copyFrom(r)
	if err != nil {
		return n, ioError(err)
	}
	return n, nil
}

// Commit implements content.Upload.
func (u *upload) Commit(d digest.Digest) error {
	if u.lost {
		return errLost
	}
	if err := u.verify(d); err != nil {
		return err
	}
	if err := u.flush(); err != nil {
		return ioError(err)
	}
	lock, err := u.s.lockCommit(false)
	if err != nil {
		return err
	}
	defer lock.Close()
	// The collector judges content by its time: an upload that rested for days
	// is new content all the same.
	now := time.Now()
	from := filepath.Join(u.dir, "data")
	if err := os.Chtimes(from, now, now); err != nil {
		return ioError(err)
	}
	if err := atomicfile.Move(from, u.s.blobPath(d)); err != nil {
		return ioError(err)
	}
	if err := u.s.link(u.repo, d, u.offset); err != nil {
		return err
	}
	u.s.usage.add(u.offset)
	u.drop()
	return nil
}

func (u *upload) verify(d digest.Digest) error {
	got := u.sum.digest()
	if d.Algorithm() != u.sum.alg {
		if _, err := u.data.Seek(0, io.SeekStart); err != nil {
			return err
		}
		var err error
		if got, err = d.Algorithm().FromReader(u.data); err != nil {
			return err
		}
	}
	if got != d {
		return fmt.Errorf("%w: %d bytes have %s, not %s", content.ErrDigestMismatch, u.offset, got, d)
	}
	return nil
}

// Close implements content.Upload. It frees the lock.
func (u *upload) Close() error {
	if u.data == nil {
		return nil // committed or cancelled
	}
	err := u.checkpoint()
	u.release()
	return ioError(err)
}

// Cancel implements content.Upload.
func (u *upload) Cancel() error {
	u.drop()
	return nil
}

// drop removes the upload's directory, with what a crash may have left in it,
// and frees the lock last, so that a waiter finds either all of it or nothing.
func (u *upload) drop() {
	_ = os.Remove(filepath.Join(u.dir, "data")) // without it the upload is unknown
	_ = os.RemoveAll(u.dir)
	u.release()
}

func (u *upload) release() {
	for _, f := range []*os.File{u.data, u.lock} {
		if f != nil {
			_ = f.Close()
		}
	}
	u.data, u.lock = nil, nil
	u.s.activeMu.Lock()
	defer u.s.activeMu.Unlock()
	if u.s.active[u.id] == u {
		delete(u.s.active, u.id)
		close(u.released)
	}
}

// Uploads implements content.Uploads.
func (s *Store) Uploads() ([]content.UploadInfo, error) {
	ids, err := names(filepath.Join(s.root, "uploads"))
	if err != nil {
		return nil, err
	}
	var all []content.UploadInfo
	for _, id := range ids {
		dir := filepath.Join(s.root, "uploads", id)
		u := &upload{s: s, id: id, dir: dir}
		st, err := u.loadState()
		if err != nil {
			continue // finished meanwhile, or never begun
		}
		updated := fileTime(filepath.Join(dir, "data"))
		all = append(all, content.UploadInfo{ID: id, Repository: st.Repository, Offset: st.Offset, Started: st.Started, Updated: updated})
	}
	return all, nil
}

// PurgeUploads implements content.Uploads. It sweeps tmp too.
func (s *Store) PurgeUploads(before time.Time) (int, error) {
	ids, err := names(filepath.Join(s.root, "uploads"))
	if err != nil {
		return 0, err
	}
	purged := 0
	var errs []error
	for _, id := range ids {
		dir := filepath.Join(s.root, "uploads", id)
		stale := func() bool {
			last := fileTime(filepath.Join(dir, "data"))
			if last.IsZero() {
				last = fileTime(dir)
			}
			return !last.IsZero() && last.Before(before)
		}
		if !stale() {
			continue
		}
		// A crash may have left a directory without its lock.
		lock, err := tryLock(filepath.Join(dir, "lock"), os.O_CREATE)
		if err != nil || lock == nil {
			continue // gone, or in use
		}
		if !stale() { // somebody went on with it in between
			_ = lock.Close()
			continue
		}
		u := &upload{s: s, id: id, dir: dir, lock: lock}
		u.drop()
		if _, err := os.Stat(dir); err == nil {
			errs = append(errs, fmt.Errorf("upload %s could not be removed", id))
			continue
		}
		purged++
	}
	s.sweepTemporary(before)
	return purged, errors.Join(errs...)
}
