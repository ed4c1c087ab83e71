package content

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

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
