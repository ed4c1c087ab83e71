package fs

import (
	"os"
	"path/filepath"
)

// Growing is the content of an upload, read while it grows. It stays readable when the
// upload has become a blob or is gone. It is safe for concurrent use.
type Growing struct {
	file *os.File
	path string
}

// Growing opens an upload of this store for reading. The error is fs.ErrNotExist when it
// is a blob already, or there is none.
func (s *Store) Growing(upload string) (*Growing, error) {
	path := filepath.Join(s.root, "uploads", upload, "data")
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Growing{f, path}, nil
}

// Size is how many bytes there are by now, 0 when that cannot be told.
func (g *Growing) Size() int64 {
	info, err := g.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// ReadAt implements io.ReaderAt.
func (g *Growing) ReadAt(p []byte, off int64) (int, error) { return g.file.ReadAt(p, off) }

// Ended reports whether the upload has become a blob, or is gone.
func (g *Growing) Ended() bool {
	_, err := os.Stat(g.path)
	return err != nil
}

// Close ends the reading.
func (g *Growing) Close() error { return g.file.Close() }
