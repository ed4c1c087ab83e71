package fs

import (
	"os"
	"path/filepath"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// growing is the data file of an upload.
type growing struct {
	file *os.File
	path string
}

// Growing opens an upload of this store for reading. The error is fs.ErrNotExist when it
// is a blob already, or there is none.
func (s *Store) Growing(upload string) (content.Growing, error) {
	path := filepath.Join(s.root, "uploads", upload, "data")
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &growing{f, path}, nil
}

// Size is how many bytes there are by now, 0 when that cannot be told.
func (g *growing) Size() int64 {
	info, err := g.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// ReadAt implements io.ReaderAt.
func (g *growing) ReadAt(p []byte, off int64) (int, error) { return g.file.ReadAt(p, off) }

// Ended reports whether the upload has become a blob, or is gone.
func (g *growing) Ended() bool {
	_, err := os.Stat(g.path)
	return err != nil
}

// Close ends the reading.
func (g *growing) Close() error { return g.file.Close() }
