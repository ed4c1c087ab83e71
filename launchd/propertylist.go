package launchd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
)

// plistMode is what launchd wants of a daemon's property list, which must also be
// root's. One that others may write is refused with a code that says nothing.
const plistMode = 0o644

// writePlist puts a property list at path in one step, so that a boot in between
// finds the old or the new one whole.
func writePlist(path, text string) error {
	// launchd reads every file of the directory whose name ends in .plist.
	f, err := atomicfile.Options{Temp: "." + filepath.Base(path) + ".new-*"}.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := ownPlist(f.Name()); err != nil {
		return err
	}
	return f.Commit()
}

// ownPlist gives the file the mode and the owner that launchd wants.
func ownPlist(path string) error {
	if err := os.Chmod(path, plistMode); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil // a stand-in's directory
	}
	return os.Chown(path, 0, 0) // root:wheel
}

// readPlist returns what is installed at path, "" when there is nothing.
func readPlist(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(data), err
}
