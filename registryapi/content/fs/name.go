package fs

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/ankacluster/ankacluster/internal/oci"
)

// encodeRepository makes one directory name of a repository name: the grammar
// has no '~'. One flat directory lists all repositories in one read.
func encodeRepository(name string) string { return strings.ReplaceAll(name, "/", "~") }

func decodeRepository(dir string) (string, bool) {
	name := strings.ReplaceAll(dir, "~", "/")
	return name, oci.CheckRepository(name) == nil
}

// encodeTag makes a file name of a tag that stays distinct on file systems that
// fold case. The tag file holds the tag's true spelling; names too long for the
// file system become a hash.
func encodeTag(tag string) string {
	var b strings.Builder
	for _, c := range []byte(tag) {
		switch {
		case c >= 'A' && c <= 'Z':
			b.WriteByte('!')
			b.WriteByte(c + 'a' - 'A')
		case c == ':':
			b.WriteString("!0")
		default:
			b.WriteByte(c)
		}
	}
	if b.Len() > 200 {
		sum := sha256.Sum256([]byte(tag))
		return "~" + hex.EncodeToString(sum[:])
	}
	return b.String()
}
