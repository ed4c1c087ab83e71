package upgrade

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// Product is the name that a signed program must go by.
const Product = "ankacluster"

// Statement is what the owner of a key says about a program. It is the trusted
// comment of the program's minisign signature, and so signed with it:
//
//	ankacluster 0.2.0 darwin/arm64 20123456
//
// The last number is the program's size in bytes. The word "downgrade" after it
// allows the program to replace a later version.
type Statement struct {
	Version, OS, Arch string
	Size              int64
	Downgrade         bool
}

var (
	versionGrammar = regexp.MustCompile(`^[0-9]+(\.[0-9]+){0,2}([-+][0-9A-Za-z.+-]+)?$`)
	wordGrammar    = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
)

const maxVersion = 128 // bytes

func validVersion(v string) bool { return len(v) <= maxVersion && versionGrammar.MatchString(v) }

// String returns the statement as it is signed.
func (s Statement) String() string {
	text := fmt.Sprintf("%s %s %s/%s %d", Product, s.Version, s.OS, s.Arch, s.Size)
	if s.Downgrade {
		text += " downgrade"
	}
	return text
}

// ParseStatement is the reverse of String. It takes nothing else.
func ParseStatement(text string) (Statement, error) {
	bad := func(format string, args ...any) (Statement, error) {
		return Statement{}, fmt.Errorf("the signature's trusted comment is not \"%s VERSION SYSTEM/PROCESSOR BYTES\": %s", Product, fmt.Sprintf(format, args...))
	}
	if len(text) > 512 {
		return bad("it has %d bytes", len(text))
	}
	words := strings.Split(text, " ")
	var s Statement
	switch {
	case len(words) == 5 && words[4] == "downgrade":
		s.Downgrade = true
	case len(words) != 4:
		return bad("%q", text)
	}
	if words[0] != Product {
		return bad("it is about %q", words[0])
	}
	if s.Version = words[1]; !validVersion(s.Version) {
		return bad("%q is no version", words[1])
	}
	s.OS, s.Arch, _ = strings.Cut(words[2], "/")
	if !wordGrammar.MatchString(s.OS) || !wordGrammar.MatchString(s.Arch) {
		return bad("%q is no system and processor", words[2])
	}
	var err error
	if s.Size, err = strconv.ParseInt(words[3], 10, 64); err != nil || s.Size < 1 || s.Size > maxPackage || strconv.FormatInt(s.Size, 10) != words[3] {
		return bad("%q is no size from 1 to %d", words[3], maxPackage)
	}
	return s, nil
}

// fits reports why a program that is stated so may not replace the version that
// runs here, or was confirmed here; nil when it may.
func (s Statement) fits(announced, os, arch string, than ...string) error {
	if s.Version != announced {
		return fmt.Errorf("it is signed as version %s, version %s was announced", s.Version, announced)
	}
	if s.OS != os || s.Arch != arch {
		return fmt.Errorf("it is signed for %s/%s, this is %s/%s", s.OS, s.Arch, os, arch)
	}
	if s.Downgrade {
		return nil
	}
	var errs []error
	for _, v := range than {
		if validVersion(v) && semver.Compare("v"+s.Version, "v"+v) < 0 {
			errs = append(errs, fmt.Errorf("version %s is older than %s, and not signed as a downgrade", s.Version, v))
		}
	}
	return errors.Join(errs...)
}
