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

// Growing implements content.Uploads.
func (s *Store) Growing(upload string) (content.Growing, error) {
	path := filepath.Join(s.root, "uploads", upload, "data")
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &growing{f, path}, nil
}

// Size implements content.Growing.
func (g *growing) Size() int64 {
	info, err := g.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// ReadAt implements io.ReaderAt.
func (g *growing) ReadAt(p []byte, off int64) (int, error) { return g.file.ReadAt(p, off) }

// Ended implements content.Growing.
func (g *growing) Ended() bool {
	_, err := os.Stat(g.path)
	return err != nil
}

// Close implements content.Growing.
func (g *growing) Close() error { return g.file.Close() }
