package storage

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

func (s *Store) notePath(kind string, key ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(key, "\x00")))
	return filepath.Join(s.root, "tmp", "done-"+kind+"-"+hex.EncodeToString(sum[:16]))
}

// NoteDone remembers that something of a kind was done, with a word about it.
func (s *Store) NoteDone(kind, what string, key ...string) {
	_ = os.WriteFile(s.notePath(kind, key...), []byte(what), 0o644) // without it a repeat only hears less
}

// Done returns the word about what was done.
func (s *Store) Done(kind string, key ...string) (what string, ok bool) {
	data, err := readFile(s.notePath(kind, key...))
	return string(data), err == nil
}

// ForgetDone removes a note.
func (s *Store) ForgetDone(kind string, key ...string) { _ = os.Remove(s.notePath(kind, key...)) }
