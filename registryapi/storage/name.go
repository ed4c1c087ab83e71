package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// The repository grammar is that of the distribution specification. The tag
// grammar also admits '+' and ':', which templates' tags have always had.
var (
	repositoryGrammar = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagGrammar        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._+:-]{0,127}$`)
)

// maxRepository keeps the encoded name within NAME_MAX.
const maxRepository = 250

// CheckRepository returns ErrNameInvalid unless name is a repository name.
func CheckRepository(name string) error {
	if len(name) > maxRepository || !repositoryGrammar.MatchString(name) {
		return fmt.Errorf("%w: %.300q", ErrNameInvalid, name)
	}
	return nil
}

// CheckTag returns ErrTagInvalid unless tag is a tag and could not be mistaken
// for a digest.
func CheckTag(tag string) error {
	if !tagGrammar.MatchString(tag) || LooksLikeDigest(tag) {
		return fmt.Errorf("%w: %.200q", ErrTagInvalid, tag)
	}
	return nil
}

// LooksLikeDigest reports whether a reference is a digest, well formed or not,
// rather than a tag: it begins with the name of a hash algorithm and a colon.
func LooksLikeDigest(ref string) bool {
	alg, _, ok := strings.Cut(ref, ":")
	if !ok {
		return false
	}
	switch strings.ToLower(alg) {
	case "sha256", "sha384", "sha512", "sha1", "md5", "blake3":
		return true
	}
	return false
}

// ParseDigest returns s as a digest, or ErrDigestInvalid. The algorithms are
// sha256 and sha512.
func ParseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%w: %.200q: %v", ErrDigestInvalid, s, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return "", fmt.Errorf("%w: algorithm %q is not supported", ErrDigestInvalid, a)
	}
	return d, nil
}

// encodeRepository makes one directory name of a repository name: the grammar
// has no '~'. One flat directory lists all repositories in one read.
func encodeRepository(name string) string { return strings.ReplaceAll(name, "/", "~") }

func decodeRepository(dir string) (string, bool) {
	name := strings.ReplaceAll(dir, "~", "/")
	return name, CheckRepository(name) == nil
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
