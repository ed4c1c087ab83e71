package fs

import (
	"os"
	"path/filepath"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Notes are files in tmp, and go with what else is old there. They are written
// without a sync: after a loss of power a repeat may be told that there is no such
// thing.

func (s *Store) notePath(n content.Note) string {
	return filepath.Join(s.root, "tmp", "done-"+n.Name())
}

// NoteDone implements content.Notes.
func (s *Store) NoteDone(n content.Note) {
	_ = os.WriteFile(s.notePath(n), []byte(n.What), 0o644) // without it a repeat only hears less
}

// Done implements content.Notes.
func (s *Store) Done(n content.Note) (what string, ok bool) {
	data, err := readFile(s.notePath(n))
	return string(data), err == nil
}

// ForgetDone implements content.Notes.
func (s *Store) ForgetDone(n content.Note) { _ = os.Remove(s.notePath(n)) }
