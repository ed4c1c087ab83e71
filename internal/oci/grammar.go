package oci

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// What a name is not. Errors returned wrap one of these with the details.
var (
	ErrName   = errors.New("repository name is invalid")
	ErrTag    = errors.New("tag is invalid")
	ErrDigest = errors.New("digest is invalid")
)

// The repository grammar is that of the distribution specification. The tag
// grammar also admits '+' and ':', which templates' tags have always had.
var (
	repositoryGrammar = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagGrammar        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._+:-]{0,127}$`)
	referenceGrammar  = regexp.MustCompile(`^[^/?#\x00-\x20\x7f]{1,255}$`)
)

// maxRepository keeps a name within NAME_MAX where it is that of a directory.
const maxRepository = 250

// CheckRepository returns ErrName unless name is a repository name.
func CheckRepository(name string) error {
	if len(name) > maxRepository || !repositoryGrammar.MatchString(name) {
		return fmt.Errorf("%w: %.300q: it is lower case letters and digits, separated by one of . _ __ - or /", ErrName, name)
	}
	return nil
}

// CheckTag returns ErrTag unless tag is a tag and could not be mistaken for a
// digest.
func CheckTag(tag string) error {
	if !tagGrammar.MatchString(tag) || LooksLikeDigest(tag) {
		return fmt.Errorf("%w: %.200q", ErrTag, tag)
	}
	return nil
}

// CheckReference returns ErrTag unless ref can stand in a path as a tag or digest.
// Another registry may have other tags than CheckTag allows.
func CheckReference(ref string) error {
	if !referenceGrammar.MatchString(ref) || ref == "." || ref == ".." {
		return fmt.Errorf("%w: %.300q: it has 1 to 255 characters without / ? # and blanks", ErrTag, ref)
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

// ParseDigest returns s as a digest, or ErrDigest. The algorithms are sha256 and
// sha512.
func ParseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("%w: %.200q: %v", ErrDigest, s, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return "", fmt.Errorf("%w: algorithm %q is not supported", ErrDigest, a)
	}
	return d, nil
}
