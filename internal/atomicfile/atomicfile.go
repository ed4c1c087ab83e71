// Package atomicfile replaces files in one step: whenever a process or its host
// ends, the file is the old one or the new one, whole.
//
//	err := atomicfile.Options{Mode: 0o644}.Write(path, data)
//
// The new content goes to a temporary file in the same directory, is put on stable
// storage and takes the file's name; then the directory is put on stable storage,
// too. What a crash leaves behind is the temporary file, by the name in Options.
package atomicfile

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Options are how a file is replaced. The zero value is right for a file that only
// its owner may read.
type Options struct {
	// Mode is the file's mode before umask; 0 is 0600. To set one whatever the
	// umask is, call Chmod before Commit.
	Mode fs.FileMode
	// Temp names the temporary file; "" is ".new-*". A "*" stands for random digits.
	// A name without it is used again, over what an interrupted write has left, and
	// is for files that have one writer. An absolute path may be in another directory
	// of the same file system.
	Temp string
	// Unsynced leaves out all that waits for the disk: after a crash of the host the
	// file may be the old one, empty or torn.
	Unsynced bool
	// MakeDir makes the file's directory when it is missing, as Move does.
	MakeDir bool
	// Root, where it is set, is the directory that all names are below.
	Root *os.Root
}

// Write replaces the file at path with data.
func (o Options) Write(path string, data []byte) error {
	f, err := o.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// File is a file that is being written and has not yet taken its name.
type File struct {
	*os.File
	opts       Options
	temp, path string
	ended      bool
}

// Create opens a temporary file that Commit puts at path. Close must be called in
// any case.
func (o Options) Create(path string) (*File, error) {
	temp := o.Temp
	if temp == "" {
		temp = ".new-*"
	}
	if !filepath.IsAbs(temp) {
		temp = filepath.Join(filepath.Dir(path), temp)
	}
	mode := o.Mode
	if mode == 0 {
		mode = 0o600
	}
	dir, name := filepath.Split(temp)
	star := strings.LastIndexByte(name, '*')
	if star < 0 {
		f, err := o.files().OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		if err != nil {
			return nil, err
		}
		return &File{File: f, opts: o, temp: temp, path: path}, nil
	}
	for {
		temp = dir + name[:star] + strconv.FormatUint(rand.Uint64(), 10) + name[star+1:]
		f, err := o.files().OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err == nil {
			return &File{File: f, opts: o, temp: temp, path: path}, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

// Commit closes the file and gives it its name. When it fails, the file of that
// name is the old one, or the new one whose name may not survive a crash.
func (f *File) Commit() error {
	if f.ended {
		return fs.ErrClosed
	}
	f.ended = true
	var err error
	if !f.opts.Unsynced {
		err = f.Sync()
	}
	if err = errors.Join(err, f.File.Close()); err == nil {
		err = f.rename()
	}
	if err != nil {
		_ = f.opts.files().Remove(f.temp) // gone when only the directory could not be synced
	}
	return err
}

func (f *File) rename() error {
	if f.opts.MakeDir && f.opts.Root == nil {
		return Move(f.temp, f.path)
	}
	files := f.opts.files()
	if err := files.Rename(f.temp, f.path); err != nil || f.opts.Unsynced {
		return err
	}
	return syncDir(files, filepath.Dir(f.path))
}

// Close removes the file, unless Commit was called.
func (f *File) Close() error {
	if f.ended {
		return nil
	}
	f.ended = true
	return errors.Join(f.File.Close(), f.opts.files().Remove(f.temp))
}

// Move gives a file that is on stable storage another name, durably. Directories
// of the new name that are missing are made.
func Move(from, to string) error {
	dir := filepath.Dir(to)
	err := os.Rename(from, to)
	// The directory may be new, or a deletion elsewhere may have removed it
	// since it was made; a few turns are enough for any real race.
	for range 5 {
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := MakeDir(dir); err != nil {
			return err
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return err
	}
	return SyncDir(dir)
}

// MakeDir makes dir and its parents, each durable in its own parent.
func MakeDir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err := MakeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) { // made by another, who may not have synced it yet
			err = nil
		}
	} else if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(dir))
}

// SyncDir puts the names in dir on stable storage.
func SyncDir(dir string) error { return syncDir(host{}, dir) }

func syncDir(files files, dir string) error {
	d, err := files.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some network file systems cannot and need not
		return err
	}
	return nil
}

// files is what is needed of a file system. *os.Root has it.
type files interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Rename(from, to string) error
	Remove(name string) error
}

func (o Options) files() files {
	if o.Root != nil {
		return o.Root
	}
	return host{}
}

type host struct{}

func (host) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}
func (host) Rename(from, to string) error { return os.Rename(from, to) }
func (host) Remove(name string) error     { return os.Remove(name) }
