// Package ownership tells who else may change a file, or may be behind a folder.
package ownership

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ErrShared: somebody else may write what only one user should.
var ErrShared = errors.New("others may change it")

// maxLinks is how many links a path may lead through.
const maxLinks = 40

// OnlyRoot returns an error that wraps ErrShared and names the first file or folder
// that somebody else than root may write: the file at an absolute path, the folders
// above it, and those of every link on the way. Who may write one of them decides what
// root runs.
func OnlyRoot(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path: %w", path, ErrShared)
	}
	for links := 0; ; links++ {
		if links > maxLinks {
			return fmt.Errorf("%s leads through more than %d links: %w", path, maxLinks, ErrShared)
		}
		target, err := walk(filepath.Clean(path))
		if err != nil || target == "" {
			return err
		}
		path = target
	}
}

// walk looks at each part of a path from the root on. At a link it returns the path
// that is meant instead.
func walk(path string) (target string, err error) {
	var parts []string // from the file to the root
	for at := path; ; at = filepath.Dir(at) {
		parts = append(parts, at)
		if at == filepath.Dir(at) {
			break
		}
	}
	for i := len(parts) - 1; i >= 0; i-- {
		info, err := os.Lstat(parts[i])
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := private(parts[i], info, 0); err != nil {
				return "", err
			}
			continue
		}
		// A link's own mode means nothing: who may replace it is who may write its folder.
		to, err := os.Readlink(parts[i])
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(parts[i]), to)
		}
		rest, err := filepath.Rel(parts[i], path)
		return filepath.Join(to, rest), err
	}
	return "", nil
}

// private returns an error if others than root and the user may change a file or the
// content of a folder.
func private(path string, info fs.FileInfo, uid uint32) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s is not known: %w", path, ErrShared)
	}
	if st.Uid != 0 && st.Uid != uid {
		return fmt.Errorf("%s belongs to %s: %w", path, name(st.Uid), ErrShared)
	}
	if info.IsDir() && info.Mode()&fs.ModeSticky != 0 {
		return nil // what others put there they cannot put in another's place
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		return fmt.Errorf("everybody may write %s: %w", path, ErrShared)
	case mode&0o020 != 0 && st.Gid != 0:
		return fmt.Errorf("group %d may write %s: %w", st.Gid, path, ErrShared)
	}
	return nil
}

func name(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}

// Folder returns an error that wraps ErrShared unless root and this user alone decide
// what stands under a name in a folder.
func Folder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return private(dir, info, uint32(os.Geteuid()))
}

// MakePrivateDir makes a folder that this user alone may enter, or accepts one that is
// there if it is such a folder and no link. In a folder that others may write, such as
// /tmp, somebody else may have made it first.
func MakePrivateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no folder: %w; remove it", dir, ErrShared)
	case !ok || int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to %s: %w; remove it", dir, name(st.Uid), ErrShared)
	case info.Mode().Perm()&0o077 != 0:
		return os.Chmod(dir, info.Mode().Perm()&0o700) // ours, from before or from another umask
	}
	return nil
}
