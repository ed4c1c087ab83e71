// Package selfpath finds the path at which this program can be started later.
package selfpath

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Program returns the path by which this program was called, absolute and with its
// links: a link such as /opt/homebrew/bin/NAME stays where it is when an upgrade
// puts another version beside this one and removes it. Where that cannot be known,
// it is the program's own path. The first call counts, which should come before
// the program is replaced.
var Program = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	// Linux tells of a program that was replaced by appending a word to its name.
	self = strings.TrimSuffix(self, " (deleted)")
	if called := stable(os.Args[0], self); called != "" {
		return called, nil
	}
	return filepath.EvalSymlinks(self)
})

// stable returns called as an absolute path if it leads to self and is no easier
// to change for others than self is: a service may run it as root.
func stable(called, self string) string {
	if !strings.ContainsRune(called, filepath.Separator) {
		found, err := exec.LookPath(called)
		if err != nil {
			return ""
		}
		called = found
	}
	path, err := filepath.Abs(called)
	if err != nil {
		return ""
	}
	a, errA := filepath.EvalSymlinks(path)
	b, errB := filepath.EvalSymlinks(self)
	if errA != nil || errB != nil || a != b {
		return ""
	}
	for at := path; at != b; {
		if !trusted(filepath.Dir(at), filepath.Dir(b)) {
			return ""
		}
		target, err := os.Readlink(at)
		if err != nil { // a link is further up: of a directory
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(at), target)
		}
		at = target
	}
	return path
}

// trusted reports whether dir belongs to root or to the owner of like, and nobody
// else may write there.
func trusted(dir, like string) bool {
	a, errA := os.Stat(dir)
	b, errB := os.Stat(like)
	if errA != nil || errB != nil {
		return false
	}
	x, okA := a.Sys().(*syscall.Stat_t)
	y, okB := b.Sys().(*syscall.Stat_t)
	if !okA || !okB || x.Uid != 0 && x.Uid != y.Uid {
		return false
	}
	return a.Mode().Perm()&0o002 == 0 || a.Mode()&os.ModeSticky != 0 && y.Uid == x.Uid
}
