package fs

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
)

// Notes of what was done, for requests that are repeated because their answer was
// lost: any server of the directory then gives the first one's answer. They are
// files in tmp, and go with what else is old there. They are written without a
// sync: after a loss of power a repeat may be told that there is no such thing.

// Note is about one thing that was done.
type Note struct {
	Kind string
	Key  []string // what it was done to
	What string   // a word about it
}

// Name names the note, whatever its key holds.
func (n Note) Name() string {
	sum := sha256.Sum256([]byte(strings.Join(n.Key, "\x00")))
	return n.Kind + "-" + hex.EncodeToString(sum[:16])
}

func (s *Store) notePath(n Note) string { return filepath.Join(s.root, "tmp", "done-"+n.Name()) }

// NoteDone remembers that something was done.
func (s *Store) NoteDone(n Note) {
	_ = os.WriteFile(s.notePath(n), []byte(n.What), 0o644) // without it a repeat only hears less
}

// Done returns the word about what was done.
func (s *Store) Done(n Note) (what string, ok bool) {
	data, err := readFile(s.notePath(n))
	return string(data), err == nil
}

// ForgetDone removes a note.
func (s *Store) ForgetDone(n Note) { _ = os.Remove(s.notePath(n)) }
