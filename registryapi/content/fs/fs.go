package fs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/filelock"
)

// writeFile puts data at path as one step that survives a crash. The directory is
// made if needed. What a crash leaves is in tmp, which the collector empties.
func (s *Store) writeFile(path string, data []byte) error {
	o := atomicfile.Options{Mode: 0o644, Temp: s.temp(), MakeDir: true}
	return ioError(o.Write(path, data))
}

// temp is the pattern of files that become others when they are whole.
func (s *Store) temp() string { return filepath.Join(s.root, "tmp", "*") }

// open opens a file for reading. When there is none it looks a second time
// after opening the directory: a network file system may have remembered that
// the name did not exist, and opening a directory makes it ask the server.
func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESTALE) {
		return f, err
	}
	if !revalidate(filepath.Dir(path)) {
		return nil, fs.ErrNotExist
	}
	return os.Open(path)
}

// revalidate opens dir and its parents up to the first that exists, so that
// names cached as absent are asked for anew. It reports whether dir exists.
func revalidate(dir string) bool {
	d, err := os.Open(dir)
	if err == nil {
		_ = d.Close()
		return true
	}
	parent := filepath.Dir(dir)
	if parent == dir || !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if !revalidate(parent) {
		return false
	}
	d, err = os.Open(dir)
	if err == nil {
		_ = d.Close()
	}
	return err == nil
}

func readFile(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

func readAll(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	n, err := f.ReadAt(data, 0)
	if n == len(data) {
		err = nil
	}
	return data[:n], err
}

// remove deletes a name and makes that durable. It reports whether it existed.
func remove(path string) (bool, error) {
	switch err := os.Remove(path); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, ioError(err)
	}
	return true, ioError(atomicfile.SyncDir(filepath.Dir(path)))
}

// names lists a directory; one that does not exist is empty.
func names(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// touchEvery bounds how often a file's time is refreshed. It must be well below
// every grace period of the collector.
const touchEvery = time.Minute

// touch tells the collector that a file is wanted. Errors do not matter to
// readers of a read-only directory; writers fail elsewhere.
func touch(path string, info fs.FileInfo, now time.Time) {
	if now.Sub(info.ModTime()) > touchEvery {
		_ = os.Chtimes(path, now, now)
	}
}

// lockFile takes an exclusive or shared lock on path, made if needed, and waits for
// it. Closing the file frees it; so does the end of the process.
func lockFile(path string, exclusive bool) (*os.File, error) {
	if exclusive {
		return openLocked(path, os.O_CREATE, filelock.Lock)
	}
	return openLocked(path, os.O_CREATE, filelock.RLock)
}

// tryLockFile takes an existing file's exclusive lock without waiting: nil and
// no error when it is taken.
func tryLockFile(path string) (*os.File, error) { return tryLock(path, 0) }

// tryLock is tryLockFile with further flags for opening the file.
func tryLock(path string, flags int) (*os.File, error) {
	f, err := openLocked(path, flags, filelock.TryLock)
	if errors.Is(err, filelock.ErrLocked) {
		return nil, nil
	}
	return f, err
}

func openLocked(path string, flags int, lock func(*os.File) error) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o644)
	if err != nil {
		return nil, ioError(err)
	}
	if err := lock(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
