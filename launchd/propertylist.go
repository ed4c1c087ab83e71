package launchd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// plistMode is what launchd wants of a daemon's property list, which must also be
// root's. One that others may write is refused with a code that says nothing.
const plistMode = 0o644

// writePlist puts a property list at path in one step, so that a boot in between
// finds the old or the new one whole.
func writePlist(path, text string) (err error) {
	dir := filepath.Dir(path)
	// launchd reads every file of the directory whose name ends in .plist.
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err = f.WriteString(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = ownPlist(f.Name()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
