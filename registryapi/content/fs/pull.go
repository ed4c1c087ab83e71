package fs

import (
	"os"
	"time"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
)

func (s *Store) pullPath(repo, tag string) string { return s.repoPath(repo, "pulls", encodeTag(tag)) }

// RecordPull implements content.Tags. It is a file's mtime, so that all servers of
// the directory agree; a directory that cannot be written keeps the old time.
func (s *Store) RecordPull(repo, tag string, now time.Time) {
	path := s.pullPath(repo, tag)
	if err := os.Chtimes(path, now, now); err == nil {
		return
	}
	if atomicfile.MakeDir(s.repoPath(repo, "pulls")) != nil {
		return
	}
	if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644); err == nil {
		_ = f.Close()
		_ = os.Chtimes(path, now, now)
	}
}

// LastPull implements content.Tags.
func (s *Store) LastPull(repo, tag string) time.Time { return fileTime(s.pullPath(repo, tag)) }
