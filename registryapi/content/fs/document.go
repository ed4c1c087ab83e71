package fs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/filelock"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// documents are the files of a folder, which may be the root and must not be one of
// Folders. The folder is made when something is written.
type documents struct {
	s   *Store
	dir string
}

// Documents implements content.Store.
func (s *Store) Documents(folder ...string) content.Documents {
	return documents{s, filepath.Join(append([]string{s.root}, folder...)...)}
}

// Place implements content.Documents.
func (d documents) Place() string { return d.dir }

// Make implements content.Documents.
func (d documents) Make() error { return ioError(os.MkdirAll(d.dir, 0o755)) }

// Read implements content.Documents.
func (d documents) Read(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(d.dir, name))
}

// Write implements content.Documents.
func (d documents) Write(name string, data []byte) error {
	return d.s.writeFile(filepath.Join(d.dir, name), data)
}

// WriteSoon implements content.Documents.
func (d documents) WriteSoon(name string, data []byte) error {
	if err := d.Make(); err != nil {
		return err
	}
	o := atomicfile.Options{Temp: d.s.temp(), Unsynced: true}
	return ioError(o.Write(filepath.Join(d.dir, name), data))
}

// Remove implements content.Documents.
func (d documents) Remove(name string) error {
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ioError(err)
	}
	return nil
}

// Names implements content.Documents.
func (d documents) Names() ([]string, error) { return names(d.dir) }

// Lock implements content.Documents.
func (d documents) Lock(ctx context.Context, name string, pause time.Duration) (release func(), err error) {
	if err := d.Make(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, ioError(err)
	}
	if err := filelock.LockContext(ctx, f, pause); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
